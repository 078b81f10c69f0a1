/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* To and from where: the class of a packet's remote address. */
#ifndef NETATOP_REMOTE_H
#define NETATOP_REMOTE_H

#include "address.bpf.h"
#include "maps.bpf.h"

/*
 * State of a found_remote. Only its own processor writes it, and may be interrupted there by another
 * program that does the same: who finds it busy writes nothing, and who finds another state after the
 * address than before it has found nothing.
 *
 *	bits 0..3	class
 *	bit  4		set: there is one
 *	bit  5		it is being written
 *	bits 6..63	how often it was
 */
#define FOUND_SET (1ULL << 4)
#define FOUND_BUSY (1ULL << 5)
#define FOUND_ONCE (1ULL << 6)

static __always_inline void keep_found(struct found_remote *found, union address address,
				       __u32 remote)
{
	volatile struct found_remote *place = found;
	__u64 before = place->state, times = before & -FOUND_ONCE;

	if (before & FOUND_BUSY ||
	    __sync_val_compare_and_swap(&found->state, before, times | FOUND_BUSY) != before)
		return;
	place->address[0] = address.half[0];
	place->address[1] = address.half[1];
	place->state = (times + FOUND_ONCE) | FOUND_SET | remote;
}

static __noinline __u32 search_remote(union address *address, struct found_remote *found)
{
	struct remote_prefix whole;
	__u32 *entry, remote;

	if (!address || !found)
		return REMOTE_UNKNOWN; /* for the verifier */
	whole.bits = 8 * sizeof(whole.address);
	__builtin_memcpy(whole.address, address, sizeof(whole.address));
	entry = bpf_map_lookup_elem(&remote_prefixes, &whole);
	remote = entry ? *entry & (REMOTES - 1) : REMOTE_UNKNOWN;
	keep_found(found, *address, remote);
	return remote;
}

static __always_inline __u32 find_remote(union address address)
{
	volatile struct found_remote *found;
	__u64 state;
	__u32 slot;

	slot = (address.half[0] ^ address.half[1]) * 0x9E3779B97F4A7C15ULL >>
	       (64 - FOUND_REMOTES_BITS);
	found = bpf_map_lookup_elem(&found_remotes, &slot);
	if (!found)
		return REMOTE_UNKNOWN; /* for the verifier */
	state = found->state;
	if (state & FOUND_SET && found->address[0] == address.half[0] &&
	    found->address[1] == address.half[1] && found->state == state)
		return state & (REMOTES - 1);
	return search_remote(&address, (struct found_remote *)found);
}

/* Where the header is not there to be looked at, or there is no lane. */
static __noinline __u32 read_remote(struct __sk_buff *skb, __u32 direction)
{
	return find_remote(read_address(skb, remote_side(direction), read_skb));
}

/*
 * The usual packet comes from where the one before did. An IPv4 address and its class fit into one word,
 * which can't be torn:
 *
 *	bits 0..31	address
 *	bits 32..35	class
 *	bit  36		set: there is one
 */
#define REMOTE_SHIFT 32
#define REMOTE_SET (1ULL << 36)

static __always_inline __u32 ipv4_remote(struct lane *lane, __be32 address)
{
	__u64 before = lane->remote;
	__u32 remote;

	if ((__u32)before == address && before & REMOTE_SET)
		return before >> REMOTE_SHIFT & (REMOTES - 1);
	remote = find_remote(mapped(address));
	lane->remote = REMOTE_SET | (__u64)remote << REMOTE_SHIFT | address;
	return remote;
}

static __always_inline __u32 skb_remote(struct __sk_buff *skb, struct lane *lane, __u32 direction)
{
	const __u8 *ip = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	union address address;

	if (ip + IPV4_HEADER <= end && ip[0] >> 4 == 4)
		return ipv4_remote(lane, *(__be32 *)(ip + ipv4_place(remote_side(direction))));
	if (ip + IPV6_HEADER > end)
		return read_remote(skb, direction);
	__builtin_memcpy(&address, ip + ipv6_place(remote_side(direction)), sizeof(address));
	return find_remote(address);
}

#endif
