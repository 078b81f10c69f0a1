/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the socket filters never see of a host's own packets, because the kernel takes or sends it by
 * itself. All of it is unidentified, reason kernel.
 */
#ifndef NETATOP_GAP_H
#define NETATOP_GAP_H

#include "buffer.bpf.h"
#include "local.bpf.h"

static __always_inline void count_for_kernel(struct sk_buff *skb, enum direction direction)
{
	const unsigned char *ip_header = skb->head + skb->network_header;
	struct traffic traffic = buffer_traffic(skb, ip_header);

	account_unclaimed(ip_header, REASON_KERNEL,
			  protocol_of(find_transport(ip_header, read_memory).protocol), direction,
			  traffic);
}

/* A socket that the filters run for: neither half open nor in TIME_WAIT (include/net/sock.h, sk_fullsock) */
static __always_inline bool is_full(struct sock *sk)
{
	return sk->__sk_common.skc_state != TCP_TIME_WAIT &&
	       sk->__sk_common.skc_state != TCP_NEW_SYN_RECV;
}

/* A half-open connection stands for its listener (include/net/inet_sock.h, sk_to_full_sk). */
static __always_inline struct sock *full_sock(struct sock *sk)
{
	if (!sk || is_full(sk))
		return sk;
	if (sk->__sk_common.skc_state == TCP_TIME_WAIT)
		return NULL;
	return sk->__sk_common.skc_listener;
}

/*
 * Will the filters run for a packet that leaves? Only if the socket that sends it is the one that it
 * belongs to (include/linux/bpf-cgroup.h, BPF_CGROUP_RUN_PROG_INET_EGRESS).
 */
static __always_inline bool is_filtered(struct sock *sender, struct sock *owner)
{
	struct sock *full = full_sock(sender);

	return full && full == full_sock(owner);
}

#define IPPROTO_IGMP 2

/*
 * Of what arrives, ICMP but for answers to echo requests, which are sockets' business, and IGMP. A
 * later fragment of ICMPv6 does not say what it is, and is left out.
 */
static __always_inline bool is_taken_by_kernel(const unsigned char *ip_header)
{
	struct transport found = find_transport(ip_header, read_memory);
	__u8 type = 0;

	if (found.protocol == IPPROTO_IGMP)
		return true;
	if (protocol_of(found.protocol) != PROTOCOL_ICMP || found.is_later_fragment ||
	    read_memory(ip_header, found.offset, &type, sizeof(type)))
		return false;
	return type != (found.protocol == IPPROTO_ICMP ? ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY);
}

/* The short way for nearly every packet: TCP and UDP, by one byte. */
static __always_inline bool may_be_kernels(struct sk_buff *skb)
{
	const unsigned char *ip_header = skb->head + skb->network_header;
	const struct iphdr *four =
		bpf_rdonly_cast(ip_header, bpf_core_type_id_kernel(struct iphdr));
	const struct ipv6hdr *six =
		bpf_rdonly_cast(ip_header, bpf_core_type_id_kernel(struct ipv6hdr));
	__u8 next = skb->protocol == bpf_htons(ETH_P_IP) ? four->protocol : six->nexthdr;

	return next != IPPROTO_TCP && next != IPPROTO_UDP;
}

#endif
