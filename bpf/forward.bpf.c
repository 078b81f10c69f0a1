// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Addresses behind this host and their connections, seen at the devices that lead to them. What comes
 * from a device is transmitted by its source; what goes to it is received by its destination.
 */
/* There from the start: many addresses may come at once, faster than the kernel finds memory. */
#define HOSTS_FLAGS 0

#include "fingerprint.h"
#include "forward.h"
#include "host.bpf.h"
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

const volatile struct forward_settings settings = {.fingerprint = NETATOP_FINGERPRINT};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

/* A packet of a device, taken apart. */
struct seen {
	union address source, destination;
	struct transport transport;
	struct traffic traffic;
	__u16 source_port, destination_port;
	__u8 tcp_flags;
};

#define ETHERNET_HEADER 14
#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

/*
 * Bytes from the IP header on, by what that header says: the device may have padded the packet. Nothing
 * is said of more than 64 KiB (BIG TCP); what lies before the header is not counted then.
 */
static __always_inline __u32 ip_length(struct __sk_buff *skb, __u32 said)
{
	struct sk_buff *buffer = (void *)skb;
	__u32 header, data;

	if (said && said <= skb->len)
		return said;
	if (bpf_rdonly_cast) {
		buffer = bpf_rdonly_cast(skb, bpf_core_type_id_kernel(struct sk_buff));
		header = buffer->network_header;
		data = buffer->data - buffer->head;
	} else {
		header = BPF_CORE_READ(buffer, network_header);
		data = BPF_CORE_READ(buffer, data) - BPF_CORE_READ(buffer, head);
	}
	return skb->len - (header - data);
}

/* One buffer counts as a packet for each segment, with headers of its own. */
static __always_inline void take_segments(struct __sk_buff *skb, struct seen *seen, __u32 headers)
{
	__u32 segments = skb->gso_segs;

	/* What a virtual machine hands over does not say how many (SKB_GSO_DODGY). */
	if (!segments && skb->gso_size && seen->traffic.bytes > headers)
		segments = (seen->traffic.bytes - headers + skb->gso_size - 1) / skb->gso_size;
	if (segments > 1) {
		seen->traffic.packets = segments;
		seen->traffic.bytes += (__u64)(segments - 1) * headers;
	}
}

static __always_inline __u16 big_endian(const __u8 *bytes)
{
	return bytes[0] << 8 | bytes[1];
}

/* Of TCP or UDP, which begin alike. */
static __always_inline void take_ports(struct seen *seen, const __u8 *header)
{
	seen->source_port = big_endian(header);
	seen->destination_port = big_endian(header + 2);
}

static __always_inline void take_ipv4(struct seen *seen, const __u8 *header)
{
	seen->source = mapped(*(__be32 *)(header + ipv4_place(SOURCE)));
	seen->destination = mapped(*(__be32 *)(header + ipv4_place(DESTINATION)));
	seen->transport.offset = (header[0] & 0xf) * 4;
	seen->transport.protocol = header[9];
}

static __always_inline void take_ipv6(struct seen *seen, const __u8 *header)
{
	__builtin_memcpy(&seen->source, header + ipv6_place(SOURCE), 16);
	__builtin_memcpy(&seen->destination, header + ipv6_place(DESTINATION), 16);
	seen->transport.offset = IPV6_HEADER;
	seen->transport.protocol = header[6];
}

/* What the IP header says; 0: nothing, it is larger. */
static __always_inline __u32 said_ipv6(const __u8 *header)
{
	__u32 payload = big_endian(header + 4);

	return payload ? payload + IPV6_HEADER : 0;
}

/* The usual packet is there to be looked at: TCP or UDP, whole, and nothing but headers before it. */
static __always_inline bool take_usual(struct __sk_buff *skb, __u32 link_header, struct seen *seen)
{
	const __u8 *ip = (void *)(long)skb->data + link_header, *end = (void *)(long)skb->data_end;
	const __u8 *transport = ip + IPV4_HEADER;
	__u32 headers, said;

	if (ip + IPV4_HEADER + UDP_HEADER > end)
		return false;
	if (ip[0] == 0x45 && !(ip[6] & 0x3f) && !ip[7]) {
		take_ipv4(seen, ip);
		said = big_endian(ip + 2);
	} else {
		if (ip[0] >> 4 != 6 || ip + IPV6_HEADER + UDP_HEADER > end)
			return false;
		take_ipv6(seen, ip);
		said = said_ipv6(ip);
		transport = ip + IPV6_HEADER;
	}
	headers = seen->transport.offset + UDP_HEADER;
	if (seen->transport.protocol == IPPROTO_TCP) {
		if (transport + 14 > end)
			return false;
		seen->tcp_flags = transport[13];
		headers = seen->transport.offset + (transport[12] >> 4) * 4;
	} else if (seen->transport.protocol != IPPROTO_UDP) {
		return false;
	}
	take_ports(seen, transport);
	seen->traffic.packets = 1;
	seen->traffic.bytes = ip_length(skb, said);
	take_segments(skb, seen, headers);
	return true;
}

static __always_inline bool is_echo(__u8 protocol, __u8 type)
{
	if (protocol == IPPROTO_ICMP)
		return type == ICMP_ECHO || type == ICMP_ECHO_REPLY;
	return type == ICMPV6_ECHO || type == ICMPV6_ECHO_REPLY;
}

static __always_inline void take_transport(struct __sk_buff *skb, struct seen *seen)
{
	__u8 header[14] = {};
	__u32 headers = seen->transport.offset + UDP_HEADER;

	if (seen->transport.is_later_fragment ||
	    read_skb(skb, seen->transport.offset, header, UDP_HEADER))
		return;
	switch (seen->transport.protocol) {
	case IPPROTO_TCP:
		if (read_skb(skb, seen->transport.offset, header, sizeof(header)))
			return;
		seen->tcp_flags = header[13];
		headers = seen->transport.offset + (header[12] >> 4) * 4;
		break;
	case IPPROTO_UDP:
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (is_echo(seen->transport.protocol, header[0]))
			seen->source_port = seen->destination_port = big_endian(header + 4);
		return;
	default:
		return;
	}
	take_ports(seen, header);
	take_segments(skb, seen, headers);
}

/* Any packet; 0: it is none of IP. */
static __noinline int take(struct __sk_buff *skb, struct seen *seen)
{
	__u8 header[IPV6_HEADER];
	__u32 said;

	if (!seen || read_skb(skb, 0, header, IPV4_HEADER))
		return 0;
	if (header[0] >> 4 == 4) {
		take_ipv4(seen, header);
		said = big_endian(header + 2);
		seen->transport.is_later_fragment = header[7] || header[6] & 0x1f;
	} else {
		if (header[0] >> 4 != 6 || read_skb(skb, 0, header, IPV6_HEADER))
			return 0;
		take_ipv6(seen, header);
		said = said_ipv6(header);
		if (is_extension(header[6]))
			seen->transport = find_transport(skb, read_skb);
	}
	seen->traffic.packets = 1;
	seen->traffic.bytes = ip_length(skb, said);
	take_transport(skb, seen);
	return 1;
}

static __always_inline struct flow *find_flow(const struct flow_key *key, enum direction direction)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, key), fresh = {};
	long code;

	if (flow)
		return flow;
	fresh.opened_by = direction;
	fresh.first_time_ns = bpf_ktime_get_boot_ns();
	code = bpf_map_update_elem(&flows, key, &fresh, BPF_NOEXIST);
	flow = bpf_map_lookup_elem(&flows, key);
	if (!flow)
		lose(code == -E2BIG ? LOSS_CONNECTION_FULL : LOSS_CONNECTION_MEMORY);
	return flow;
}

/* Another connection with the ports of one that has ended. */
static __always_inline void begin_anew(struct flow *flow, enum direction direction)
{
	__builtin_memset(flow->traffic, 0, sizeof(flow->traffic));
	flow->state = 0;
	flow->opened_by = direction;
	flow->first_time_ns = bpf_ktime_get_boot_ns();
}

static __always_inline bool has_ended(const struct flow *flow)
{
	return flow->state & FLOW_RESET || (flow->state & FLOW_SEEN_TO_END) == FLOW_SEEN_TO_END;
}

static __always_inline void add_flow(struct flow *flow, const struct seen *seen,
				     enum direction direction)
{
	__u64 tick = bpf_jiffies64();
	__u32 news = 0;

	if ((seen->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && has_ended(flow))
		begin_anew(flow, direction);
	add(&flow->traffic[direction & 1], seen->traffic);
	if (seen->tcp_flags & TCP_FIN)
		news |= 1U << direction;
	if (seen->tcp_flags & TCP_RST)
		news |= FLOW_RESET;
	if ((seen->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_ACK && direction == flow->opened_by)
		news |= FLOW_OPEN;
	if (news & ~flow->state)
		__sync_fetch_and_or(&flow->state, news);
	if (flow->tick != tick) {
		flow->tick = tick;
		flow->last_time_ns = bpf_ktime_get_boot_ns();
	}
}

static __always_inline int count(struct __sk_buff *skb, __u32 link_header, enum direction direction)
{
	bool transmits = direction == DIRECTION_TRANSMIT;
	struct seen seen = {};
	struct flow_key flow_key = {};
	struct host_key key;
	struct flow *flow;

	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return TC_ACT_UNSPEC;
	if (!take_usual(skb, link_header, &seen) && !take(skb, &seen))
		return TC_ACT_UNSPEC;
	key = host_key(transmits ? seen.source : seen.destination, skb->ifindex);
	add_host(&key, protocol_of(seen.transport.protocol), direction, seen.traffic);
	if (!settings.count_flows || seen.transport.is_later_fragment)
		return TC_ACT_UNSPEC;
	__builtin_memcpy(flow_key.address, key.address, sizeof(flow_key.address));
	__builtin_memcpy(flow_key.peer, transmits ? &seen.destination : &seen.source,
			 sizeof(flow_key.peer));
	flow_key.device = key.device;
	flow_key.protocol = seen.transport.protocol;
	flow_key.port = transmits ? seen.source_port : seen.destination_port;
	flow_key.peer_port = transmits ? seen.destination_port : seen.source_port;
	flow = find_flow(&flow_key, direction);
	if (flow)
		add_flow(flow, &seen, direction);
	return TC_ACT_UNSPEC; /* on to whatever comes next */
}

#define SECOND 1000000000ULL

/* Both ends take part: so one that scans, or lies about its address, fills the table for minutes only. */
static __always_inline bool is_mutual(const struct flow *flow)
{
	return flow->state & FLOW_OPEN && flow->traffic[DIRECTION_RECEIVE].packets &&
	       flow->traffic[DIRECTION_TRANSMIT].packets;
}

/*
 * For so long without a packet it is a connection still. TCP: RFC 5382, REQ-5; UDP and the rest: what
 * Linux tracks (net/netfilter/nf_conntrack_proto_udp.c and others). One that has ended is kept for a
 * moment: its last packets are its own.
 */
static __always_inline __u64 patience(__u32 protocol, const struct flow *flow)
{
	if (has_ended(flow))
		return 10 * SECOND;
	switch (protocol) {
	case IPPROTO_TCP:
		return (is_mutual(flow) ? 7440 : 240) * SECOND;
	case IPPROTO_UDP:
		return 180 * SECOND;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return 30 * SECOND;
	default:
		return 600 * SECOND;
	}
}

/* One runs at a time. */
struct flow_walk walk;

/* Counts the connections of each address, and tells of those that are none any more. */
SEC("iter/bpf_map_elem")
int walk_flows(struct bpf_iter__bpf_map_elem *context)
{
	struct bpf_iter_meta *meta = context->meta;
	const struct flow_key *key = context->key;
	const struct flow *flow = context->value;
	struct host_key host_key;
	struct host *host;
	__u64 last;

	if (walk.session != meta->session_id) {
		walk.session = meta->session_id;
		walk.flows = 0;
	}
	if (!key || !flow) {
		bpf_seq_write(meta->seq, &walk, sizeof(walk));
		return 0;
	}
	walk.flows++;
	last = flow->last_time_ns ?: flow->first_time_ns; /* a new one has no last time yet */
	if (bpf_ktime_get_boot_ns() > last + patience(key->protocol, flow)) {
		struct flow_key gone = *key;

		bpf_seq_write(meta->seq, &gone, sizeof(gone));
	} else if (!has_ended(flow)) {
		__builtin_memcpy(host_key.address, key->address, sizeof(host_key.address));
		host_key.device = key->device;
		host = bpf_map_lookup_elem(&hosts, &host_key);
		if (host)
			count_connection_of(host, meta->session_id, protocol_of(key->protocol));
	}
	return 0;
}

/* Devices with a header before IP's, as Ethernet has it; and those without. */
SEC("tc")
int from_device(struct __sk_buff *skb)
{
	return count(skb, ETHERNET_HEADER, DIRECTION_TRANSMIT);
}

SEC("tc")
int to_device(struct __sk_buff *skb)
{
	return count(skb, ETHERNET_HEADER, DIRECTION_RECEIVE);
}

SEC("tc")
int from_tunnel(struct __sk_buff *skb)
{
	return count(skb, 0, DIRECTION_TRANSMIT);
}

SEC("tc")
int to_tunnel(struct __sk_buff *skb)
{
	return count(skb, 0, DIRECTION_RECEIVE);
}
