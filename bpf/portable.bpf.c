// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The portable object, for kernels on which netatop.bpf.c can't work: without socket storage in
 * tracing programs, without atomics that return the old value (Linux 5.12), without BTF.
 *
 * A shell: each program takes its arguments out of its context and calls a verb. What each is attached to
 * is in exporter/kernel/portable.py, and what is lost without. Two dialects, see dialect.h.
 */
#include "dialect.h"
#include "portable.h"

#include "portable_socket.bpf.h"
#include "portable_stray.bpf.h"
#include "portable_task.bpf.h"

#ifndef NETATOP_BCC
char LICENSE[] SEC("license") = "Dual MIT/GPL";
#endif

/* Packets */

SEC("cgroup_skb/ingress")
int count_receive(struct __sk_buff *skb)
{
	return count(skb, DIRECTION_RECEIVE);
}

SEC("cgroup_skb/egress")
int count_transmit(struct __sk_buff *skb)
{
	return count(skb, DIRECTION_TRANSMIT);
}

SEC("raw_tp/kfree_skb")
int drop_stray(struct bpf_raw_tracepoint_args *context)
{
	look_for_stray(context, true);
	return 0;
}

SEC("raw_tp/kfree_skb")
int drop_stray_spare(struct bpf_raw_tracepoint_args *context)
{
	look_for_stray(context, false);
	return 0;
}

/* Owners: creation and end */

SEC("cgroup/sock_create")
int own_created(struct bpf_sock *sk)
{
	struct socket_meter *meter =
		claim(bpf_get_socket_cookie(sk), bpf_get_current_task(), USER_CREATOR);

	if (meter)
		describe_kind(meter, sk);
	return 1;
}

SEC("cgroup/sock_release")
int settle_released(struct bpf_sock *sk)
{
	if (sk->protocol != IPPROTO_TCP) /* which goes on until its state is CLOSE */
		end_socket(bpf_get_socket_cookie(sk));
	return 1;
}

SEC("sockops")
int own_accepted(struct bpf_sock_ops *context)
{
	name_socket(context);
	return 1;
}

SEC("raw_tp/inet_sock_set_state")
int follow_state(struct bpf_raw_tracepoint_args *context)
{
	change_state(context->args[0], context->args[1], context->args[2]);
	return 0;
}

SEC("raw_tp/inet_sock_set_state")
int follow_state_spare(struct bpf_raw_tracepoint_args *context)
{
	change_state(context->args[0], context->args[1], context->args[2]);
	return 0;
}

/* Owners: use, where the kernel has these tracepoints (Linux 6.16, 6.3) */

SEC("raw_tp/tcp_sendmsg_locked")
int own_tcp_sender(struct bpf_raw_tracepoint_args *context)
{
	use_socket(context->args[0], USER_TRANSMITS);
	return 0;
}

static __always_inline void sent(__u64 sk, int result)
{
	if (result < 0 || !sk)
		return;
	if (is_inet(sk))
		end_send(sk, result);
	else if (is_packet(sk))
		count_packet_socket(DIRECTION_TRANSMIT, result);
}

/* A look at data (MSG_PEEK) or at the error queue is no use of the data. */
static __always_inline void received(__u64 sk, int result, __u32 flags)
{
	if (result < 0 || flags & (MSG_PEEK | MSG_ERRQUEUE) || !sk)
		return;
	if (is_inet(sk))
		use_socket(sk, USER_RECEIVES);
	else if (is_packet(sk))
		count_packet_socket(DIRECTION_RECEIVE, result);
}

SEC("raw_tp/sock_send_length")
int own_sender(struct bpf_raw_tracepoint_args *context)
{
	sent(context->args[0], context->args[1]);
	return 0;
}

SEC("raw_tp/sock_recv_length")
int own_receiver(struct bpf_raw_tracepoint_args *context)
{
	received(context->args[0], context->args[1], context->args[2]);
	return 0;
}

/*
 * Owners: use, by kprobes. A receive is told where its data is taken (net/ipv4/tcp.c, tcp_cleanup_rbuf;
 * net/ipv4/udp.c, skb_consume_udp), not when it returns: of a function with many waiting in it the kernel
 * sees few returns, as it keeps a place for each (kernel/kprobes.c, maxactive).
 */

/* inet_sendmsg(socket, ...) and its like */
SEC("kprobe")
int enter_send(struct pt_regs *context)
{
	__u64 sk = read_socket_sk(REGISTER_1(context));

	if (sk && is_inet(sk))
		use_socket(sk, USER_TRANSMITS);
	return 0;
}

/* inet_recvmsg(socket, message, size, flags): only those that use no data are remembered. */
SEC("kprobe")
int enter_receive(struct pt_regs *context)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct call call = {read_socket_sk(REGISTER_1(context)), REGISTER_4(context)};

	if (call.flags & (MSG_PEEK | MSG_ERRQUEUE))
		bpf_map_update_elem(MAP(calls), &thread, &call, BPF_ANY);
	else if (bpf_map_lookup_elem(MAP(calls), &thread))
		bpf_map_delete_elem(MAP(calls), &thread);
	return 0;
}

static __always_inline int take(__u64 sk, int length)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct call *call = bpf_map_lookup_elem(MAP(calls), &thread);

	received(sk, length, call ? call->flags : 0);
	return 0;
}

/* tcp_cleanup_rbuf(sk, copied): 0 before it waits */
SEC("kprobe")
int take_tcp(struct pt_regs *context)
{
	int copied = REGISTER_2(context);

	return copied > 0 ? take(REGISTER_1(context), copied) : 0;
}

/* skb_consume_udp(sk, skb, length): below 0 if it was only looked at */
SEC("kprobe")
int take_udp(struct pt_regs *context)
{
	return take(REGISTER_1(context), REGISTER_3(context));
}

static __always_inline void enter_call(__u64 sk)
{
	struct call call = {.sk = sk};
	__u64 thread = bpf_get_current_pid_tgid();

	/* There may be one, with its flags. */
	bpf_map_update_elem(MAP(calls), &thread, &call, BPF_NOEXIST);
}

static __always_inline struct call leave_call(void)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct call *found = bpf_map_lookup_elem(MAP(calls), &thread), call = {};

	if (found) {
		call = *found;
		bpf_map_delete_elem(MAP(calls), &thread);
	}
	return call;
}

/* raw_recvmsg(sk, ...) and its like */
SEC("kprobe")
int enter_raw(struct pt_regs *context)
{
	enter_call(REGISTER_1(context));
	return 0;
}

SEC("kretprobe")
int leave_raw(struct pt_regs *context)
{
	struct call call = leave_call();

	received(call.sk, REGISTER_RESULT(context), call.flags);
	return 0;
}

/* packet_sendmsg(socket, ...), packet_recvmsg(socket, ...) */
SEC("kprobe")
int enter_packet(struct pt_regs *context)
{
	enter_call(read_socket_sk(REGISTER_1(context)));
	return 0;
}

SEC("kretprobe")
int leave_packet_send(struct pt_regs *context)
{
	sent(leave_call().sk, REGISTER_RESULT(context));
	return 0;
}

/* A look at a packet (MSG_PEEK) can't be told from its receipt here. */
SEC("kretprobe")
int leave_packet_receive(struct pt_regs *context)
{
	struct call call = leave_call();

	received(call.sk, REGISTER_RESULT(context), call.flags);
	return 0;
}

/* Owners: use, where there is neither; each runs in the process that calls */

SEC("cgroup/connect4")
int use_connect4(struct bpf_sock_addr *context)
{
	claim(bpf_get_socket_cookie(context), bpf_get_current_task(), USER_CREATOR);
	return 1;
}

SEC("cgroup/connect6")
int use_connect6(struct bpf_sock_addr *context)
{
	claim(bpf_get_socket_cookie(context), bpf_get_current_task(), USER_CREATOR);
	return 1;
}

SEC("cgroup/post_bind4")
int use_bind4(struct bpf_sock *sk)
{
	claim(bpf_get_socket_cookie(sk), bpf_get_current_task(), USER_CREATOR);
	return 1;
}

SEC("cgroup/post_bind6")
int use_bind6(struct bpf_sock *sk)
{
	claim(bpf_get_socket_cookie(sk), bpf_get_current_task(), USER_CREATOR);
	return 1;
}

SEC("cgroup/sendmsg4")
int use_sendmsg4(struct bpf_sock_addr *context)
{
	claim(bpf_get_socket_cookie(context), bpf_get_current_task(), USER_TRANSMITS);
	return 1;
}

SEC("cgroup/sendmsg6")
int use_sendmsg6(struct bpf_sock_addr *context)
{
	claim(bpf_get_socket_cookie(context), bpf_get_current_task(), USER_TRANSMITS);
	return 1;
}

SEC("cgroup/recvmsg4")
int use_recvmsg4(struct bpf_sock_addr *context)
{
	claim(bpf_get_socket_cookie(context), bpf_get_current_task(), USER_RECEIVES);
	return 1;
}

SEC("cgroup/recvmsg6")
int use_recvmsg6(struct bpf_sock_addr *context)
{
	claim(bpf_get_socket_cookie(context), bpf_get_current_task(), USER_RECEIVES);
	return 1;
}

/* The lives of tasks */

SEC("raw_tp/task_rename")
int follow_name(struct bpf_raw_tracepoint_args *context)
{
	__u64 task = context->args[0];
	const void *command = (const void *)context->args[1];

	if (read_task_pid(task) == read_task_tgid(task))
		rename_task(process_identity(task), task, command);
	if (SETTING(count_threads))
		rename_task(thread_identity(task), task, command);
	return 0;
}

SEC("raw_tp/sched_process_exit")
int follow_exit(struct bpf_raw_tracepoint_args *context)
{
	exit_task(context->args[0]);
	return 0;
}

/* Not attached: run with cookies of sockets in which something waits, or that have ended. */
SEC("tc")
int settle_meters(struct __sk_buff *skb)
{
	__u64 cookie;

#pragma clang loop unroll(disable)
	for (int i = 0; i < SETTLE_COOKIES; i++) {
		if (bpf_skb_load_bytes(skb, SETTLE_HEADER + i * sizeof(cookie), &cookie,
				       sizeof(cookie)))
			break;
		settle(cookie);
	}
	return 0;
}

#ifndef NETATOP_BCC

/* At start: sockets that were open before; the task with the lowest id comes first and stays. */
SEC("iter/task_file")
int walk_files(struct bpf_iter__task_file *context)
{
	__u64 task = (__u64)context->task, file = (__u64)context->file, socket, sk, cookie;

	if (!task || !file || (read_inode_mode(read_file_inode(file)) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = read_file_data(file);
	if (!socket || read_socket_file(socket) != file)
		return 0;
	sk = read_socket_sk(socket);
	if (!sk || !is_inet(sk) || has_ended(task))
		return 0;
	cookie = read_sock_cookie(sk);
	if (!cookie || has_user(find_meter(cookie)))
		return 0;
	claim(cookie, task, USER_CREATOR);
	if (read_sock_state(sk) == TCP_LISTEN)
		bequeath(sk, task);
	/* It may have ended since: then nobody has told the record that was made for it. */
	if (has_ended(task))
		end_task(process_identity(task), process_exit_code(task));
	return 0;
}

#endif
