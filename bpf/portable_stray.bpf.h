/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Packets that no socket wanted: as in stray.bpf.h. */
#ifndef NETATOP_PORTABLE_STRAY_H
#define NETATOP_PORTABLE_STRAY_H

#include "packet.bpf.h"
#include "portable_socket.bpf.h"

static __always_inline long read_freed(const void *ip_header, __u32 offset, void *to, __u32 length)
{
	return bpf_probe_read_kernel(to, length, ip_header + offset);
}

static __always_inline struct traffic freed_traffic(__u64 skb, __u64 ip_header)
{
	__u64 shared = read_skb_head(skb) + read_skb_end(skb);
	/* What is left, and what came before it, if the headers were pulled. */
	struct traffic traffic = {1, read_skb_length(skb) + (read_skb_data(skb) - ip_header)};
	__u16 segments = read_shared_segments(shared);

	if (segments > 1) {
		traffic.packets = segments;
		traffic.bytes +=
			(__u64)(segments - 1) * header_length((const void *)ip_header, read_freed);
	}
	return traffic;
}

static __always_inline void count_stray(__u64 skb, enum reason reason)
{
	__u64 ip_header = read_skb_head(skb) + read_skb_network_header(skb);
	__u16 link = read_skb_link_protocol(skb);
	enum protocol protocol;

	if (link != bpf_htons(ETH_P_IP) && link != bpf_htons(ETH_P_IPV6))
		return;
	protocol = protocol_of(find_transport((const void *)ip_header, read_freed).protocol);
	/* An echo reply without a ping socket may have gone to a raw one, which counted it. */
	if (protocol == PROTOCOL_ICMP)
		return;
	account_unidentified(reason, protocol, DIRECTION_RECEIVE, freed_traffic(skb, ip_header));
}

/* Each stray is handed to two programs; the first to run counts it. */
static __always_inline void count_stray_once(__u64 skb, enum reason reason, bool first)
{
	__u32 zero = 0;
	__u64 *last = bpf_map_lookup_elem(MAP(last_stray), &zero);

	if (!last)
		return;
	if (!first && *last == skb) {
		*last = 0;
		return;
	}
	count_stray(skb, reason);
	if (first)
		*last = skb;
}

/* For a connection in TIME_WAIT; Linux 6.11 names the socket. */
static __always_inline bool is_for_time_wait(struct bpf_raw_tracepoint_args *context)
{
	__u64 sk;

	if (!has_freed_sk())
		return false;
	sk = context->args[3];
	return sk && read_sock_state(sk) == TCP_TIME_WAIT;
}

static __always_inline void look_for_stray(struct bpf_raw_tracepoint_args *context, bool first)
{
	__u64 skb = context->args[0], reason = context->args[2];

	if (reason == DROP_NO_SOCKET || reason == DROP_NO_PROTOCOL)
		count_stray_once(skb, REASON_NO_SOCKET, first);
	else if (is_for_time_wait(context))
		count_stray_once(skb, REASON_KERNEL, first);
}

#endif
