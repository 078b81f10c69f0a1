// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The table of contents: every program of the object, each a sentence, with the reason for its hook.
 *
 * The socket is the shard. Packets are added to counters in the socket's own storage; a settle moves
 * them to the task that uses the socket. It happens when the user changes, when the socket ends and
 * when somebody reads. So the table of tasks is the only source of counters and only grows.
 */
#include "kernel.h"
#include "netatop.h"

#include "adopt.bpf.h"
#include "compat.bpf.h"
#include "gap.bpf.h"
#include "life.bpf.h"
#include "packet.bpf.h"
#include "socket.bpf.h"
#include "spare.bpf.h"
#include "stray.bpf.h"
#include "walk.bpf.h"

/* A send has ended, of any kind of socket. */
static __always_inline int sent(struct sock *sk, int result, enum run run)
{
	if (result < 0 || !sk)
		return 0;
	if (is_inet(sk))
		end_send(sk, result);
	else if (is_packet(sk))
		count_packet_socket(DIRECTION_TRANSMIT, result, run);
	return 0;
}

/* A look at data (MSG_PEEK) or at the error queue is no use of the data. */
static __always_inline int received(struct sock *sk, int result, int flags, enum run run)
{
	if (result < 0 || flags & (MSG_PEEK | MSG_ERRQUEUE) || !sk)
		return 0;
	if (is_inet(sk))
		use_socket(sk, USER_RECEIVES);
	else if (is_packet(sk))
		count_packet_socket(DIRECTION_RECEIVE, result, run);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/*
 * Packets. cgroup_skb at the root of the version 2 hierarchy sees each IP packet of each socket once,
 * in every network namespace, with its full socket (kernel/bpf/cgroup.c). It misses what never
 * reaches a socket (drop_stray), what the kernel answers for TIME_WAIT, and ICMP to the kernel.
 */
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

/*
 * skb:kfree_skb with a reason (5.17): the only trace of a packet that no socket wanted, because
 * the socket filters do not run. Of the whole host, so only attached with the root cgroup.
 */
SEC("tp_btf/kfree_skb")
int BPF_PROG(drop_stray, struct sk_buff *skb, void *location, enum skb_drop_reason reason)
{
	look_for_stray(ctx, skb, reason, true);
	return 0;
}

/* Spare, see spare.bpf.h: a process frees some buffer, a packet arrives on that processor. */
SEC("tp_btf/kfree_skb")
int BPF_PROG(drop_stray_spare, struct sk_buff *skb, void *location, enum skb_drop_reason reason)
{
	look_for_stray(ctx, skb, reason, false);
	return 0;
}

/*
 * Packets of the kernel's own, at netfilter's local hooks, where nftables counts too (Linux 6.4): what
 * no socket filter sees. After all rules: what a firewall drops was not received and not sent.
 * Attached to each network namespace by itself, and with the root cgroup only.
 */
SEC("netfilter")
int kernel_receive(struct bpf_nf_ctx *context)
{
	struct sk_buff *skb = context->skb;

	if (may_be_kernels(skb) && is_taken_by_kernel(skb->head + skb->network_header))
		count_for_kernel(skb, DIRECTION_RECEIVE);
	return NF_ACCEPT;
}

SEC("netfilter")
int kernel_transmit(struct bpf_nf_ctx *context)
{
	struct sk_buff *skb = context->skb;

	if (!is_filtered(context->state->sk, skb->sk))
		count_for_kernel(skb, DIRECTION_TRANSMIT);
	return NF_ACCEPT;
}

/* Owners: creation. In the process that calls socket(2); not for the kernel's own sockets. */
SEC("cgroup/sock_create")
int own_created(struct bpf_sock *sk)
{
	struct kind kind = {.type = sk->type, .protocol = sk->protocol};

	claim(sk, &kind, bpf_get_current_task_btf(), USER_CREATOR);
	return 1;
}

/*
 * Owners: use. A send through TCP, before anything leaves (net/ipv4/tcp.c, tcp_sendmsg_locked, Linux
 * 6.16).
 */
SEC("tp_btf/tcp_sendmsg_locked")
int BPF_PROG(own_tcp_sender, struct sock *sk)
{
	use_socket(sk, USER_TRANSMITS);
	return 0;
}

/* Spare, as those below: where tracepoints can be preempted. To claim twice is to do it once. */
SEC("tp_btf/tcp_sendmsg_locked")
int BPF_PROG(own_tcp_sender_spare, struct sock *sk)
{
	use_socket(sk, USER_TRANSMITS);
	return 0;
}

/*
 * Owners: use. Linux 6.3; called once at the end of every send and receive, whatever the system call
 * (net/socket.c). Misses splice from TCP, tcp_read_sock and io_uring's zero-copy receive: their
 * packets are counted all the same, for the user known before.
 */
SEC("tp_btf/sock_send_length")
int BPF_PROG(own_sender, struct sock *sk, int result, int flags)
{
	return sent(sk, result, RUN_FIRST);
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(own_sender_spare, struct sock *sk, int result, int flags)
{
	return sent(sk, result, RUN_SPARE);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(own_receiver, struct sock *sk, int result, int flags)
{
	return received(sk, result, flags, RUN_FIRST);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(own_receiver_spare, struct sock *sk, int result, int flags)
{
	return received(sk, result, flags, RUN_SPARE);
}

/*
 * The same where the kernel has not these tracepoints, but trampolines: at the functions that every such
 * call goes through (net/ipv4/af_inet.c, net/ipv6/af_inet6.c, net/packet/af_packet.c). The last argument is
 * what the function returns.
 */
SEC("fentry/tcp_sendmsg")
int BPF_PROG(own_tcp_sender_entry, struct sock *sk)
{
	use_socket(sk, USER_TRANSMITS);
	return 0;
}

/* sendfile(2) and splice(2), until Linux 6.5 */
SEC("fentry/tcp_sendpage")
int BPF_PROG(own_tcp_page_sender_entry, struct sock *sk)
{
	use_socket(sk, USER_TRANSMITS);
	return 0;
}

SEC("fexit/inet_sendmsg")
int BPF_PROG(own_sender_return, struct socket *socket, void *message, __u64 size, int result)
{
	return sent(socket->sk, result, RUN_FIRST);
}

SEC("fexit/inet6_sendmsg")
int BPF_PROG(own_sender_return_six, struct socket *socket, void *message, __u64 size, int result)
{
	return sent(socket->sk, result, RUN_FIRST);
}

SEC("fexit/inet_sendpage")
int BPF_PROG(own_page_sender_return, struct socket *socket, void *page, int offset, __u64 size,
	     int flags, __s64 result)
{
	return sent(socket->sk, result, RUN_FIRST);
}

SEC("fexit/packet_sendmsg")
int BPF_PROG(own_packet_sender_return, struct socket *socket, void *message, __u64 size, int result)
{
	return sent(socket->sk, result, RUN_FIRST);
}

SEC("fexit/inet_recvmsg")
int BPF_PROG(own_receiver_return, struct socket *socket, void *message, __u64 size, int flags,
	     int result)
{
	return received(socket->sk, result, flags, RUN_FIRST);
}

SEC("fexit/inet6_recvmsg")
int BPF_PROG(own_receiver_return_six, struct socket *socket, void *message, __u64 size, int flags,
	     int result)
{
	return received(socket->sk, result, flags, RUN_FIRST);
}

SEC("fexit/packet_recvmsg")
int BPF_PROG(own_packet_receiver_return, struct socket *socket, void *message, __u64 size,
	     int flags, int result)
{
	return received(socket->sk, result, flags, RUN_FIRST);
}

/*
 * Owners: connect and listen, both in the calling process; and the end of a TCP socket, which for a
 * connection that was never accepted is the only one. TCP only, in every network namespace.
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(follow_state, struct sock *sk, int old_state, int new_state)
{
	change_state(sk, old_state, new_state);
	return 0;
}

/* Spare, everywhere: softirqs change states. To settle or claim twice is to do it once. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(follow_state_spare, struct sock *sk, int old_state, int new_state)
{
	change_state(sk, old_state, new_state);
	return 0;
}

/* The last descriptor of a socket is closed; a TCP socket may go on without a process. */
SEC("cgroup/sock_release")
int settle_released(struct bpf_sock *sk)
{
	struct kind kind = {.type = sk->type, .protocol = sk->protocol};

	settle_for_good(sk, &kind);
	return 1;
}

/* prctl, /proc/PID/comm and exec alike (fs/exec.c, __set_task_comm) */
SEC("tp_btf/task_rename")
int BPF_PROG(follow_name, struct task_struct *task, const char *command)
{
	rename_tasks(task, command);
	return 0;
}

SEC("tp_btf/task_rename")
int BPF_PROG(follow_name_spare, struct task_struct *task, const char *command)
{
	rename_tasks(task, command);
	return 0;
}

/* After the count of living threads went down, before the files are closed (kernel/exit.c) */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(follow_exit, struct task_struct *task)
{
	end_tasks(task, RUN_FIRST);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(follow_exit_spare, struct task_struct *task)
{
	end_tasks(task, RUN_SPARE);
	return 0;
}

/* The first step of a scrape: settle every socket, count them, and list them if wanted. */
SEC("iter/bpf_sk_storage_map")
int walk_sockets(struct bpf_iter__bpf_sk_storage_map *context)
{
	struct meter *meter = context->value;
	struct sock *sk = context->sk; /* none: it is being freed */

	if (meter)
		visit_socket(context->meta, sk, meter);
	else
		end_walk(context->meta);
	return 0;
}

/* The same on kernels where the iterator above is not safe. */
SEC("iter/task_file")
int walk_socket_files(struct bpf_iter__task_file *context)
{
	struct file *file = context->file;

	if (file)
		visit_file(context->meta, file);
	else
		end_walk(context->meta);
	return 0;
}

/* At start: sockets that were open before; the task with the lowest id comes first and stays. */
SEC("iter/task_file")
int walk_files(struct bpf_iter__task_file *context)
{
	struct task_struct *task = context->task;
	struct file *file = context->file;

	if (task && file)
		own_opened(task, file);
	return 0;
}

/*
 * netatop's private options, where somebody wants them: after the kernel's own handler of every
 * getsockopt(2), with the socket locked (kernel/bpf/cgroup.c; Linux 5.18 for the result).
 */
SEC("cgroup/getsockopt")
int answer_getsockopt(struct bpf_sockopt *context)
{
	return answer_netatop(context);
}

/* Not attached: run for each record that is taken over from another version (Linux 5.14). */
SEC("syscall")
int adopt(struct adoption *adoption)
{
	if (adoption->identity < ADOPT_NOBODYS)
		return adopt_nobodys(adoption);
	return adopt_task(adoption);
}
