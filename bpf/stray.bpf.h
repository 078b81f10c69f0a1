/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Packets that bypass the socket filters: strays that no socket wanted, and packet sockets. */
#ifndef NETATOP_STRAY_H
#define NETATOP_STRAY_H

#include "account.bpf.h"
#include "buffer.bpf.h"
#include "local.bpf.h"
#include "spare.bpf.h"
#include "task.bpf.h"

static __always_inline bool is_inet(struct sock *sk)
{
	return sk->__sk_common.skc_family == AF_INET || sk->__sk_common.skc_family == AF_INET6;
}

static __always_inline bool is_packet(struct sock *sk)
{
	return sk->__sk_common.skc_family == AF_PACKET;
}

/* Both mean: delivered to this host, and no socket or protocol took it. */
static __always_inline bool is_stray(enum skb_drop_reason reason)
{
	return reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_NO_SOCKET) ||
	       reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_IP_NOPROTO);
}

/*
 * Was it for a connection in TIME_WAIT? The kernel has answered it by itself and drops it; a SYN that
 * opens the connection anew is not dropped. (net/ipv4/tcp_ipv4.c, tcp_v4_rcv; Linux 6.11 names the socket.)
 */
static __always_inline bool is_for_time_wait(__u64 *context)
{
	struct trace_event_raw_kfree_skb *event = NULL;
	struct sock *sk;

	if (!bpf_core_field_exists(event->rx_sk))
		return false;
	sk = (struct sock *)context[3];
	return sk && sk->__sk_common.skc_state == TCP_TIME_WAIT;
}

static __always_inline void count_stray(struct sk_buff *skb, enum reason reason)
{
	const unsigned char *ip_header = skb->head + skb->network_header;
	enum protocol protocol;

	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return;
	protocol = protocol_of(find_transport(ip_header, read_memory).protocol);
	/* An echo reply without a ping socket may have gone to a raw one, which counted it. */
	if (protocol == PROTOCOL_ICMP)
		return;
	account_unclaimed(ip_header, reason, protocol, DIRECTION_RECEIVE,
			  buffer_traffic(skb, ip_header));
}

/*
 * Each stray is handed to two programs, see netatop.bpf.c; the first to run counts it. The others
 * between the two can't be strays: the receive path runs with softirqs off.
 */
static __always_inline void count_stray_once(struct sk_buff *skb, enum reason reason, bool first)
{
	__u32 zero = 0;
	__u64 *last = bpf_map_lookup_elem(&last_stray, &zero);

	if (!last)
		return;
	if (!first && *last == (__u64)skb) {
		*last = 0;
		return;
	}
	count_stray(skb, reason);
	if (first)
		*last = (__u64)skb;
}

/* AF_PACKET knows no IP: what the call returned, as one packet, for the task that called. */
static __always_inline void look_for_stray(__u64 *context, struct sk_buff *skb,
					   enum skb_drop_reason reason, bool first)
{
	if (is_stray(reason))
		count_stray_once(skb, REASON_NO_SOCKET, first);
	else if (is_for_time_wait(context))
		count_stray_once(skb, REASON_KERNEL, first);
}

static __always_inline void count_packet_socket(enum direction direction, int result, enum run run)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct traffic traffic = {1, result};

	if (task->flags & PF_KTHREAD || !in_scope(task) ||
	    !is_counting(task, run, settings.has_spares))
		return;
	account(enter_task(task), PROTOCOL_OTHER, direction, lane_word(traffic, REMOTE_NONE));
}

#endif
