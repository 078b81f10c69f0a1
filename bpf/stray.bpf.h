/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Packets that bypass the socket filters: strays that no socket wanted, and packet sockets. */
#ifndef NETATOP_STRAY_H
#define NETATOP_STRAY_H

#include "account.bpf.h"
#include "packet.bpf.h"
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

static __always_inline void count_stray(struct sk_buff *skb)
{
	const unsigned char *ip_header = skb->head + skb->network_header;
	const struct skb_shared_info *shared = (void *)(skb->head + skb->end);
	/* The transport header was pulled: what is left plus what came before it. */
	struct traffic traffic = {1, skb->len + (skb->data - ip_header)};
	__u16 segments = BPF_CORE_READ(shared, gso_segs);
	struct transport found;
	enum protocol protocol;

	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return;
	found = find_transport(ip_header, read_memory);
	protocol = protocol_of(found.protocol);
	/* An echo reply without a ping socket may have gone to a raw one, which counted it. */
	if (protocol == PROTOCOL_ICMP)
		return;
	if (segments > 1) {
		traffic.packets = segments;
		traffic.bytes += (__u64)(segments - 1) * header_length(ip_header, read_memory);
	}
	account_unidentified(REASON_NO_SOCKET, protocol, DIRECTION_RECEIVE, traffic);
}

/*
 * Each stray is handed to two programs, see netatop.bpf.c; the first to run counts it. The others
 * between the two can't be strays: the receive path runs with softirqs off.
 */
static __always_inline void count_stray_once(struct sk_buff *skb, bool first)
{
	__u32 zero = 0;
	__u64 *last = bpf_map_lookup_elem(&last_stray, &zero);

	if (!last)
		return;
	if (!first && *last == (__u64)skb) {
		*last = 0;
		return;
	}
	count_stray(skb);
	if (first)
		*last = (__u64)skb;
}

/* AF_PACKET knows no IP: what the call returned, as one packet, for the task that called. */
static __always_inline void count_packet_socket(enum direction direction, int result)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (task->flags & PF_KTHREAD || !in_scope(task))
		return;
	account(enter_task(task), PROTOCOL_OTHER, direction, 1, result);
}

#endif
