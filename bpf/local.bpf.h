/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What is counted for tasks, and for nobody, by this host's own addresses too: the same packets. */
#ifndef NETATOP_LOCAL_H
#define NETATOP_LOCAL_H

#include "account.bpf.h"
#include "host.bpf.h"

/* For raw sockets, whose packets need not be of the socket's own protocol. */
static __noinline __u32 skb_protocol(struct __sk_buff *skb)
{
	return protocol_of(find_transport(skb, read_skb).protocol);
}

static __noinline int add_local(struct __sk_buff *skb, __u32 direction, __u32 protocol)
{
	const __u8 *ip = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct host_key key;
	union address address;
	enum side side = local_side(direction);

	if (ip + IPV4_HEADER <= end && ip[0] >> 4 == 4)
		address = mapped(*(__be32 *)(ip + ipv4_place(side)));
	else
		address = read_address(skb, side, read_skb);
	key = host_key(address, HOST_LOCAL);
	add_host(&key, protocol, direction, skb_traffic(skb));
	return 0;
}

/* Of a socket's packet; raw: it may be of another protocol than the socket's. */
static __always_inline void count_local(struct __sk_buff *skb, enum direction direction,
					struct meter *meter)
{
	if (!settings.max_hosts)
		return;
	add_local(skb, direction, meter && !meter->raw ? meter->protocol : skb_protocol(skb));
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
