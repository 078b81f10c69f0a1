/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The addresses of a packet, all of them as IPv6: IPv4 is mapped (RFC 4291, section 2.5.5.2). */
#ifndef NETATOP_ADDRESS_H
#define NETATOP_ADDRESS_H

#include "packet.bpf.h"

/* Network byte order. */
union address {
	__u64 half[2];
	__be32 quarter[4];
	__u8 bytes[16];
};

static __always_inline union address mapped(__be32 ipv4)
{
	union address address;

	address.half[0] = 0;
	address.quarter[2] = bpf_htonl(0xffff);
	address.quarter[3] = ipv4;
	return address;
}

enum side { SOURCE, DESTINATION };

/* Where they stand in the IP header. */
static __always_inline __u32 ipv4_place(enum side side)
{
	return side == SOURCE ? 12 : 16;
}

static __always_inline __u32 ipv6_place(enum side side)
{
	return side == SOURCE ? 8 : 24;
}

/* What is received comes from the other side, and is for this one. */
static __always_inline enum side remote_side(__u32 direction)
{
	return direction == DIRECTION_RECEIVE ? SOURCE : DESTINATION;
}

static __always_inline enum side local_side(__u32 direction)
{
	return direction == DIRECTION_RECEIVE ? DESTINATION : SOURCE;
}

static __always_inline union address read_address(const void *packet, enum side side,
						  read_packet read)
{
	union address address = {};
	__be32 ipv4 = 0;
	__u8 version = 0;

	read(packet, 0, &version, sizeof(version));
	if (version >> 4 == 4) {
		read(packet, ipv4_place(side), &ipv4, sizeof(ipv4));
		return mapped(ipv4);
	}
	read(packet, ipv6_place(side), &address, sizeof(address));
	return address;
}

#endif
