/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* To and from where: the class of a packet's remote address. */
#ifndef NETATOP_REMOTE_H
#define NETATOP_REMOTE_H

#include "maps.bpf.h"
#include "packet.bpf.h"

/* Where the remote address stands in the IP header: the source of what is received. */
static __always_inline __u32 ipv4_offset(__u32 direction)
{
	return direction == DIRECTION_RECEIVE ? 12 : 16;
}

static __always_inline __u32 ipv6_offset(__u32 direction)
{
	return direction == DIRECTION_RECEIVE ? 8 : 24;
}

static __noinline __u32 find_remote(struct remote_prefix *whole)
{
	__u32 *remote;

	if (!whole)
		return REMOTE_UNKNOWN; /* for the verifier */
	remote = bpf_map_lookup_elem(&remote_prefixes, whole);
	return remote ? *remote & (REMOTES - 1) : REMOTE_UNKNOWN;
}

/* The whole address, which is its own longest prefix. No initialisers: they would go into .rodata. */
static __always_inline void map_ipv4(struct remote_prefix *whole, __be32 address)
{
	__builtin_memset(whole, 0, sizeof(*whole));
	whole->bits = 128;
	whole->address[10] = whole->address[11] = 0xff;
	__builtin_memcpy(whole->address + 12, &address, sizeof(address));
}

/* By helper, and remembering nothing. */
static __noinline __u32 skb_remote(struct __sk_buff *skb, __u32 direction)
{
	struct remote_prefix whole = {};
	__u8 version = 0;
	__be32 address = 0;

	read_skb(skb, 0, &version, sizeof(version));
	if (version >> 4 == 4) {
		read_skb(skb, ipv4_offset(direction), &address, sizeof(address));
		map_ipv4(&whole, address);
	} else {
		whole.bits = 128;
		read_skb(skb, ipv6_offset(direction), whole.address, sizeof(whole.address));
	}
	return find_remote(&whole);
}

/*
 * An IPv4 address and its class fit into one word, which can't be torn: what the packet before has found.
 *
 *	bits 0..31	address
 *	bits 32..35	class
 *	bit  36		set: there is one
 */
#define REMOTE_SHIFT 32
#define REMOTE_SET (1ULL << 36)

static __always_inline __u32 ipv4_remote(struct lane *lane, __be32 address)
{
	__u64 known = lane->remote;
	struct remote_prefix whole;
	__u32 remote;

	if (known & REMOTE_SET && (__u32)known == address)
		return known >> REMOTE_SHIFT & (REMOTES - 1);
	map_ipv4(&whole, address);
	remote = find_remote(&whole);
	lane->remote = REMOTE_SET | (__u64)remote << REMOTE_SHIFT | address;
	return remote;
}

static __always_inline __u32 remote_of(struct __sk_buff *skb, struct lane *lane, __u32 direction)
{
	const __u8 *ip = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct remote_prefix whole;

	if (ip + IPV4_HEADER <= end && ip[0] >> 4 == 4)
		return ipv4_remote(lane, *(__be32 *)(ip + ipv4_offset(direction)));
	if (ip + IPV6_HEADER > end)
		return skb_remote(skb, direction);
	whole.bits = 128;
	__builtin_memcpy(whole.address, ip + ipv6_offset(direction), sizeof(whole.address));
	return find_remote(&whole);
}

#endif
