/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * A buffer of the network stack -> protocol, packets, bytes, at the IP layer.
 *
 * One buffer may carry several segments (GSO when sending, GRO when receiving). It counts as that
 * many packets, each with its own IP and transport header, as the device will put them on the wire.
 */
#ifndef NETATOP_PACKET_H
#define NETATOP_PACKET_H

#include "dialect.h"
#include "netatop.h"

static __always_inline enum protocol protocol_of(__u16 ip_protocol)
{
	switch (ip_protocol) {
	case IPPROTO_TCP:
	case IPPROTO_MPTCP: /* a socket's, never a packet's */
		return PROTOCOL_TCP;
	case IPPROTO_UDP:
		return PROTOCOL_UDP;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return PROTOCOL_ICMP;
	default:
		return PROTOCOL_OTHER;
	}
}

/* Does the IPv6 header with this number only lead on to the next one? (RFC 8200, section 4) */
static __always_inline bool is_extension(__u8 next_header)
{
	return next_header == IPPROTO_HOPOPTS || next_header == IPPROTO_ROUTING ||
	       next_header == IPPROTO_FRAGMENT || next_header == IPPROTO_DSTOPTS;
}

/*
 * Copies bytes counted from the IP header on; nonzero if they are not there. A packet program reads by
 * helper, others by address (buffer.bpf.h).
 */
typedef long (*read_packet)(const void *packet, __u32 offset, void *to, __u32 length);

static __always_inline long read_skb(const void *skb, __u32 offset, void *to, __u32 length)
{
	return bpf_skb_load_bytes_relative(skb, offset, to, length, BPF_HDR_START_NET);
}

struct transport {
	__u32 offset; /* from the IP header on */
	__u8 protocol;
	bool is_later_fragment; /* of IPv6: its transport header is in the first one */
};

#define IPV4_HEADER 20
#define IPV6_HEADER 40
#define UDP_HEADER 8
#define MAX_EXTENSIONS 6
#define NO_PROTOCOL 255

static __always_inline struct transport find_transport(const void *packet, read_packet read)
{
	struct transport found = {.protocol = NO_PROTOCOL};
	__u8 header[IPV4_HEADER], extension[4];

	if (read(packet, 0, header, sizeof(header)))
		return found;
	if (header[0] >> 4 == 4) {
		found.offset = (header[0] & 0xf) * 4;
		found.protocol = header[9];
		return found;
	}
	found.offset = IPV6_HEADER;
	found.protocol = header[6];
	for (int i = 0; i < MAX_EXTENSIONS && is_extension(found.protocol); i++) {
		if (read(packet, found.offset, extension, sizeof(extension)))
			break;
		if (found.protocol == IPPROTO_FRAGMENT) {
			found.offset += 8;
			found.is_later_fragment = extension[2] || extension[3] >> 3;
		} else {
			found.offset += (extension[1] + 1) * 8;
		}
		found.protocol = extension[0];
	}
	return found;
}

/* Length of the headers that every segment of a buffer repeats. */
static __always_inline __u32 header_length(const void *packet, read_packet read)
{
	struct transport found = find_transport(packet, read);
	__u8 data_offset = 0;

	if (found.protocol == IPPROTO_UDP)
		return found.offset + UDP_HEADER;
	if (found.protocol == IPPROTO_TCP)
		read(packet, found.offset + 12, &data_offset, sizeof(data_offset));
	return found.offset + (data_offset >> 4) * 4;
}

/* The usual headers are there to be looked at; for others the helper is asked. */
static __always_inline __u32 usual_header_length(const __u8 *ip, const __u8 *end)
{
	if (ip + IPV4_HEADER + 13 > end)
		return 0;
	if (ip[0] == 0x45) {
		if (ip[9] == IPPROTO_TCP)
			return IPV4_HEADER + (ip[IPV4_HEADER + 12] >> 4) * 4;
		return ip[9] == IPPROTO_UDP ? IPV4_HEADER + UDP_HEADER : 0;
	}
	if (ip[0] >> 4 != 6 || ip + IPV6_HEADER + 13 > end)
		return 0;
	if (ip[6] == IPPROTO_TCP)
		return IPV6_HEADER + (ip[IPV6_HEADER + 12] >> 4) * 4;
	return ip[6] == IPPROTO_UDP ? IPV6_HEADER + UDP_HEADER : 0;
}

static __noinline __u32 skb_header_length(struct __sk_buff *skb)
{
	return header_length(skb, read_skb);
}

static __always_inline struct traffic skb_traffic(struct __sk_buff *skb)
{
	struct traffic traffic = {1, skb->len};
	__u32 segments = skb->gso_segs;

	if (segments > 1) {
		const __u8 *ip = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
		__u32 headers = usual_header_length(ip, end);

		traffic.packets = segments;
		traffic.bytes += (__u64)(segments - 1) * (headers ?: skb_header_length(skb));
	}
	return traffic;
}

#endif
