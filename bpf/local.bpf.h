/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What is counted for tasks, and for nobody, by this host's own addresses too: the same packets. */
#ifndef NETATOP_LOCAL_H
#define NETATOP_LOCAL_H

#include "account.bpf.h"
#include "buffer.bpf.h"
#include "host.bpf.h"

/* For raw sockets, whose packets need not be of the socket's own protocol. */
static __noinline __u32 skb_protocol(struct __sk_buff *skb)
{
	return protocol_of(find_transport(skb, read_skb).protocol);
}

static __always_inline union address skb_local(struct __sk_buff *skb, __u32 direction)
{
	const __u8 *ip = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	enum side side = local_side(direction);
	union address address;

	if (ip + IPV4_HEADER <= end && ip[0] >> 4 == 4)
		return mapped(*(__be32 *)(ip + ipv4_place(side)));
	if (ip + IPV6_HEADER > end)
		return read_address(skb, side, read_skb);
	__builtin_memcpy(&address, ip + ipv6_place(side), sizeof(address));
	return address;
}

static __noinline int add_local(struct __sk_buff *skb, __u32 direction, __u32 protocol)
{
	struct host_key key = host_key(skb_local(skb, direction), HOST_LOCAL);

	add_host(&key, protocol, direction, skb_traffic(skb));
	return 0;
}

/* A packet that no meter takes. */
static __always_inline void count_local(struct __sk_buff *skb, __u32 direction)
{
	if (settings.max_hosts)
		add_local(skb, direction, skb_protocol(skb));
}

/*
 * A TCP connection has one address of its own as long as it lasts, so its packets wait for that address
 * too, in the same word. It is the socket's: one that leaves may have been given another one already by a
 * firewall (source NAT comes before the socket filters). The meter keeps it, a half in each lane: the
 * second one is written last, and is never 0.
 */
static __noinline int keep_local(struct __sk_buff *skb, struct meter *meter)
{
	struct bpf_sock *sk = skb->sk;
	union address local;

	if (!meter || !sk)
		return 0; /* for the verifier */
	if (sk->family == AF_INET) {
		if (!sk->src_ip4)
			return 0; /* not connected */
		local = mapped(sk->src_ip4);
	} else {
		local.quarter[0] = sk->src_ip6[0];
		local.quarter[1] = sk->src_ip6[1];
		local.quarter[2] = sk->src_ip6[2];
		local.quarter[3] = sk->src_ip6[3];
	}
	__sync_lock_test_and_set(&meter->lane[DIRECTION_RECEIVE].local, local.half[0]);
	__sync_lock_test_and_set(&meter->lane[DIRECTION_TRANSMIT].local, local.half[1]);
	return local.half[1] != 0;
}

/* A packet that is about to be added to a meter. */
static __always_inline void add_to_host(struct __sk_buff *skb, struct meter *meter, __u32 direction)
{
	if (!settings.max_hosts || meter->lane[DIRECTION_TRANSMIT].local)
		return;
	/* A socket that listens has the address of each packet. */
	if (meter->tcp && skb->sk && skb->sk->state != TCP_LISTEN && keep_local(skb, meter))
		return;
	add_local(skb, direction, meter->raw ? skb_protocol(skb) : meter->protocol);
}

/* What has waited in a lane, if its packets wait for an address. */
static __always_inline void give_local(struct meter *meter, __u32 direction, struct traffic traffic)
{
	union address local;
	struct host_key key;

	if (!settings.max_hosts || !meter->lane[DIRECTION_TRANSMIT].local)
		return;
	/* In this order on every processor. */
	local.half[1] = __sync_fetch_and_or(&meter->lane[DIRECTION_TRANSMIT].local, 0);
	local.half[0] = meter->lane[DIRECTION_RECEIVE].local;
	key = host_key(local, HOST_LOCAL);
	add_host(&key, meter->protocol, direction, traffic);
}

/* The next connection of the socket may have another one. */
static __always_inline void drop_local(struct meter *meter)
{
	meter->lane[DIRECTION_TRANSMIT].local = meter->lane[DIRECTION_RECEIVE].local = 0;
}

/* Of a packet that belongs to no task. */
static __always_inline void account_unclaimed(const unsigned char *ip_header, enum reason reason,
					      enum protocol protocol, enum direction direction,
					      struct traffic traffic)
{
	struct host_key key;

	account_unidentified(reason, protocol, direction, traffic);
	if (!settings.max_hosts)
		return;
	key = host_key(read_address(ip_header, local_side(direction), read_memory), HOST_LOCAL);
	add_host(&key, protocol, direction, traffic);
}

#endif
