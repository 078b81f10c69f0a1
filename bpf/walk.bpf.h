/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Iterators: over the meters of all sockets, and over the files of all tasks. */
#ifndef NETATOP_WALK_H
#define NETATOP_WALK_H

#include "life.bpf.h"
#include "local.bpf.h"
#include "socket.bpf.h"
#include "stray.bpf.h"

/*
 * Two ways to all sockets. The iterator over the storages is the short one. It holds no reference on
 * the socket: that may be freed meanwhile, and its memory be another socket. So it is only read, which
 * can't fault, by no helper; and what was read counts only if it is the meter's own socket before
 * and after.
 *
 * Since bpf_selem_unlink_nofail() (7.x) that iterator itself follows a null pointer when a socket
 * is freed under it. Such kernels get the other: over the files of all tasks, which are held.
 */
/* Closed, and not freed yet: no descriptor leads to it, nor a packet, as to TCP that is still ending. */
static __always_inline bool is_gone(struct meter *meter, __u32 state)
{
	return !meter->raw && meter->lane[DIRECTION_RECEIVE].word & LANE_AT_ONCE &&
	       (state == TCP_CLOSE || meter->protocol != PROTOCOL_TCP);
}

static __always_inline void copy_address(void *to, const struct in6_addr *from)
{
	__be32 *words = to;

	for (int i = 0; i < 4; i++)
		words[i] = from->in6_u.u6_addr32[i];
}

/* Nonzero: there was no room for the record. */
static __always_inline long write_socket(struct seq_file *seq, struct sock *sk, struct meter *meter)
{
	struct socket_record record = {.cookie = meter->cookie, .protocol = meter->protocol};
	struct sock_common *common = &sk->__sk_common;

	if (!is_still(sk, meter))
		return 0;
	record.network_namespace = common->skc_net.net->ns.inum;
	record.family = common->skc_family;
	record.local_port = common->skc_num;
	record.remote_port = bpf_ntohs(common->skc_dport);
	record.state = common->skc_state;
	if (is_gone(meter, record.state))
		return 0;
	if (record.family == AF_INET) {
		*(__be32 *)record.local_address = common->skc_rcv_saddr;
		*(__be32 *)record.remote_address = common->skc_daddr;
	} else {
		copy_address(&record.local_address, &common->skc_v6_rcv_saddr);
		copy_address(&record.remote_address, &common->skc_v6_daddr);
	}
	for (int direction = 0; direction < DIRECTIONS; direction++) {
		record.owner[direction] = user_of(meter, direction);
		record.traffic[direction].packets = meter->lane[direction].settled_packets;
		record.traffic[direction].bytes = meter->lane[direction].settled_bytes;
	}
	record.tcp.received = meter->lane[DIRECTION_RECEIVE].payload;
	record.tcp.acknowledged = meter->lane[DIRECTION_TRANSMIT].payload;
	record.tcp.retransmits = meter->lane[DIRECTION_TRANSMIT].retransmits;
	return is_still(sk, meter) ? bpf_seq_write(seq, &record, sizeof(record)) : 0;
}

/* A thread that has ended leaves its sockets to its process, before its record goes. */
static __always_inline void forget_thread(struct meter *meter, enum user how)
{
	__u64 identity = meter->user[how];
	struct task *task;

	if (!(identity & IDENTITY_THREAD))
		return;
	task = bpf_map_lookup_elem(&tasks, &identity);
	if (task && task->end_time_ns)
		__sync_val_compare_and_swap(&meter->user[how], identity, task->process);
}

/* Those that have carried packets, for their series; all, for who asks about connections. */
enum list { LIST_NONE, LIST_USED, LIST_ALL };

static __always_inline struct walk *this_walk(struct bpf_iter_meta *meta)
{
	__u32 zero = 0;
	struct walk *walk = bpf_map_lookup_elem(&walks, &zero);
	__u64 *wanted;

	if (walk && walk->summary.session != meta->session_id) {
		wanted = bpf_map_lookup_elem(&listing, &zero);
		__builtin_memset(walk, 0, sizeof(*walk));
		walk->summary.session = meta->session_id;
		walk->list = settings.list_sockets ? LIST_USED : LIST_NONE;
		if (wanted && *wanted)
			walk->list = LIST_ALL;
	}
	return walk;
}

/* One more connection of its address, in this walk over all sockets. */
static __always_inline void count_connection(struct sock *sk, struct meter *meter, __u64 session)
{
	struct sock_common *common = &sk->__sk_common;
	union address local = {}, remote = {};
	struct host_key key;
	struct host *host;
	long error;

	if (!settings.max_hosts || meter->protocol >= PROTOCOLS)
		return;
	if (common->skc_family == AF_INET) {
		local = mapped(common->skc_rcv_saddr);
		remote.quarter[3] = common->skc_daddr;
	} else {
		copy_address(&local, &common->skc_v6_rcv_saddr);
		copy_address(&remote, &common->skc_v6_daddr);
	}
	if ((!remote.half[0] && !remote.half[1]) || is_gone(meter, common->skc_state) ||
	    !is_still(sk, meter))
		return;
	key = host_key(local, HOST_LOCAL);
	host = find_host(&key, &error); /* it is packets that are lost, not connections */
	if (host)
		count_connection_of(host, session, meter->protocol);
}

/* A record that finds no room is visited again at the next read, so it is counted when it is written. */
static __always_inline void visit_socket(struct bpf_iter_meta *meta, struct sock *sk,
					 struct meter *meter)
{
	struct walk *walk = this_walk(meta);
	bool used;

	if (!walk || meter->walk == walk->summary.session)
		return; /* two tasks may hold one socket */
	settle(meter);
	if (sk)
		settle_tcp(meter, sk);
	if (settings.count_threads)
		for (int how = 0; how < USERS; how++)
			forget_thread(meter, how);
	used = meter->lane[DIRECTION_RECEIVE].settled_packets ||
	       meter->lane[DIRECTION_TRANSMIT].settled_packets;
	if (walk->list > (used ? LIST_NONE : LIST_USED) && sk && has_user(meter) &&
	    write_socket(meta->seq, sk, meter))
		return;
	meter->walk = walk->summary.session;
	if (has_user(meter) && meter->protocol < PROTOCOLS)
		walk->summary.sockets[meter->protocol]++;
	if (sk && has_user(meter))
		count_connection(sk, meter, meter->walk);
}

static __always_inline void visit_file(struct bpf_iter_meta *meta, struct file *file)
{
	struct socket *socket = bpf_sock_from_file(file);
	struct meter *meter;
	struct sock *sk;

	if (!socket)
		return;
	sk = socket->sk;
	if (!sk || !is_inet(sk))
		return;
	meter = bpf_sk_storage_get(&meters, sk, 0, 0);
	if (meter)
		visit_socket(meta, sk, meter);
}

static __always_inline void end_walk(struct bpf_iter_meta *meta)
{
	struct walk *walk = this_walk(meta);

	if (walk)
		bpf_seq_write(meta->seq, &walk->summary, sizeof(walk->summary));
}

static __always_inline void own_opened(struct task_struct *task, struct file *file)
{
	struct socket *socket = bpf_sock_from_file(file);
	struct kind kind;
	struct sock *sk;

	if (!socket)
		return;
	sk = socket->sk;
	if (!sk || !is_inet(sk) || has_ended(task) ||
	    has_user(bpf_sk_storage_get(&meters, sk, 0, 0)))
		return;
	kind = kind_of(sk);
	claim(sk, &kind, task, USER_CREATOR);
	if (sk->__sk_common.skc_state == TCP_LISTEN)
		bequeath(sk, task);
	/* It may have ended since: then nobody has told the record that was made for it. */
	if (has_ended(task))
		end_task(process_identity(task), process_exit_code(task));
}

#endif
