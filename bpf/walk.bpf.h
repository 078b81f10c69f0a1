/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Iterators: over the sockets that have an owner, and over the files of all tasks. */
#ifndef NETATOP_WALK_H
#define NETATOP_WALK_H

#include "life.bpf.h"
#include "socket.bpf.h"
#include "stray.bpf.h"

static __always_inline long write_socket(struct seq_file *seq, struct sock *sk,
					 struct pending *pending, struct owner *owner)
{
	struct socket_record record = {};
	struct sock_common *common = &sk->__sk_common;

	record.cookie = bpf_get_socket_cookie(sk);
	record.network_namespace = common->skc_net.net->ns.inum;
	record.family = common->skc_family;
	record.protocol = pending->protocol;
	record.local_port = common->skc_num;
	record.remote_port = bpf_ntohs(common->skc_dport);
	record.state = common->skc_state;
	if (record.family == AF_INET) {
		*(__be32 *)record.local_address = common->skc_rcv_saddr;
		*(__be32 *)record.remote_address = common->skc_daddr;
	} else {
		BPF_CORE_READ_INTO(&record.local_address, common, skc_v6_rcv_saddr.in6_u.u6_addr8);
		BPF_CORE_READ_INTO(&record.remote_address, common, skc_v6_daddr.in6_u.u6_addr8);
	}
	for (int direction = 0; direction < DIRECTIONS; direction++) {
		record.owner[direction] = user_of(owner, direction);
		record.traffic[direction].packets = pending->lane[direction].settled_packets;
		record.traffic[direction].bytes = pending->lane[direction].settled_bytes;
	}
	return bpf_seq_write(seq, &record, sizeof(record));
}

/* A thread that has ended leaves its sockets to its process, before its record goes. */
static __always_inline void forget_thread(struct owner *owner, enum user how)
{
	__u64 identity = owner->user[how];
	struct task *task;

	if (!(identity & IDENTITY_THREAD))
		return;
	task = bpf_map_lookup_elem(&tasks, &identity);
	if (task && task->end_time_ns)
		__sync_val_compare_and_swap(&owner->user[how], identity, task->process);
}

/* A record that finds no room is visited again at the next read, so it is counted when it is written. */
static __always_inline void visit_socket(struct bpf_iter_meta *meta, struct sock *sk,
					 struct owner *owner)
{
	struct pending *pending = bpf_sk_storage_get(&pendings, sk, 0, 0);
	enum protocol protocol = protocol_of(sk->sk_protocol);
	__u32 zero = 0;
	struct socket_summary *counted = bpf_map_lookup_elem(&summary, &zero);

	if (!counted)
		return;
	if (meta->seq_num == 0)
		__builtin_memset(counted, 0, sizeof(*counted));
	if (pending)
		settle(pending, owner);
	if (settings.count_threads)
		for (int how = 0; how < USERS; how++)
			forget_thread(owner, how);
	if (pending && settings.list_sockets && write_socket(meta->seq, sk, pending, owner))
		return;
	if (protocol < PROTOCOLS)
		counted->sockets[protocol]++;
}

static __always_inline void end_walk(struct bpf_iter_meta *meta)
{
	__u32 zero = 0;
	struct socket_summary *counted = bpf_map_lookup_elem(&summary, &zero);

	if (!counted)
		return;
	if (meta->seq_num == 0)
		__builtin_memset(counted, 0, sizeof(*counted));
	bpf_seq_write(meta->seq, counted, sizeof(*counted));
}

static __always_inline void own_opened(struct task_struct *task, struct file *file)
{
	struct socket *socket = bpf_sock_from_file(file);
	struct sock *sk;

	if (!socket)
		return;
	sk = socket->sk;
	if (!sk || !is_inet(sk) || has_ended(task) || bpf_sk_storage_get(&owners, sk, 0, 0))
		return;
	claim(sk, task, USER_CREATOR);
	/* It may have ended since: then nobody has told the record that was made for it. */
	if (has_ended(task))
		end_task(process_identity(task), process_exit_code(task));
}

#endif
