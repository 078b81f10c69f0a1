/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The few kernel types that the programs look into, with only the members that they use. Offsets
 * are relocated at load time against the running kernel's BTF (CO-RE), so order and gaps mean nothing.
 */
#ifndef NETATOP_KERNEL_H
#define NETATOP_KERNEL_H

#include <linux/bpf.h>
#include <linux/types.h>

#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "constants.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

struct task_struct;

struct signal_struct {
	atomic_t live;
	unsigned int flags;
	int group_exit_code;
	struct task_struct *group_exec_task;
};

typedef struct {
	unsigned int val;
} kuid_t;

typedef struct {
	__u64 val;
} kernel_cap_t;

struct user_namespace {
	int level;
};

struct cred {
	kuid_t uid;
	kernel_cap_t cap_effective;
	struct user_namespace *user_ns;
};

/* Until Linux 6.2 */
struct kernel_cap_struct {
	__u32 cap[2];
};

struct cred___words {
	struct kernel_cap_struct cap_effective;
};

/* What the calling program had in its registers; arch/.../include/asm/ptrace.h */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r10;
	unsigned long ax;
	unsigned long cx;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31];
	int syscallno;
};
#endif

struct kernfs_node {
	__u64 id;
};

/* Until Linux 5.4 */
union kernfs_node_id___union {
	__u64 id;
};

struct kernfs_node___union {
	union kernfs_node_id___union id;
};

struct cgroup_subsys_state {
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self;
	int level;
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct task_struct {
	unsigned int flags;
	int pid;
	int tgid;
	int exit_code;
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	__u64 start_boottime;
	const struct cred *cred;
	struct signal_struct *signal;
	struct css_set *cgroups;
	char comm[16];
};

/* Until Linux 5.4 */
struct task_struct___real {
	__u64 real_start_time;
};

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct in6_addr {
	union {
		__u8 u6_addr8[16];
		__be32 u6_addr32[4];
	} in6_u;
};

typedef struct {
	__s64 counter;
} atomic64_t;

struct sock;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	unsigned long skc_flags;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	atomic64_t skc_cookie;
	struct sock *skc_listener; /* of a half-open connection */
};

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket;
	__u8 sk_kern_sock : 1;
	__u16 sk_type;
	__u16 sk_protocol;
};

/* net/mptcp/protocol.h; it begins with a sock */
struct mptcp_sock {
	__u32 token;
};

struct tcp_sock {
	__u64 bytes_received;
	__u64 bytes_acked;
	__u64 bytes_sent;
	__u64 bytes_retrans;
	__u32 total_retrans;
	__u32 srtt_us; /* eighths of a microsecond */
	__u8 is_mptcp : 1;
};

struct udp_sock {
	int pending; /* a datagram that is being put together */
};

struct socket {
	struct sock *sk;
	struct file *file;
};

struct inode {
	unsigned short i_mode;
};

struct file {
	struct inode *f_inode;
	void *private_data;
};

struct sk_buff {
	struct sock *sk;
	unsigned int len;
	__be16 protocol;
	__u16 network_header;
	unsigned int end;
	unsigned char *head;
	unsigned char *data;
};

struct iphdr {
	__u8 protocol;
};

struct ipv6hdr {
	__u8 nexthdr;
};

struct skb_shared_info {
	unsigned short gso_segs;
};

/* include/net/sock.h: bits of skc_flags */
enum sock_flags {
	SOCK_DONE = 1,
};

/* include/net/dropreason-core.h: the values move from version to version, so they are relocated */
enum skb_drop_reason {
	SKB_DROP_REASON_NO_SOCKET = 3,
	SKB_DROP_REASON_IP_NOPROTO = 19,
};

/* include/trace/events/skb.h: told apart by it is a tracepoint that names the socket (6.11). */
struct trace_event_raw_kfree_skb {
	void *rx_sk;
};

/* include/linux/netfilter.h, include/net/netfilter/nf_bpf_link.h */
struct nf_hook_state {
	__u8 hook;
	struct sock *sk;
};

struct bpf_nf_ctx {
	const struct nf_hook_state *state;
	struct sk_buff *skb;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
};

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct sock *sk;
	void *value;
};

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	void *key;
	void *value;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	struct file *file;
};

#pragma clang attribute pop

/* kernel/bpf/helpers.c, since 6.2: read a pointer as the type with this BTF id */
extern void *bpf_rdonly_cast(const void *pointer, __u32 type_id) __ksym __weak;

#endif
