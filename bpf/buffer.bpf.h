/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The kernel's memory where there is no type to read it by: buffers of the network stack, names.
 *
 * A cast gives it one (Linux 6.2), and the kernel allows that under lockdown=confidentiality, too, where
 * it refuses every program with bpf_probe_read_kernel() in it.
 */
#ifndef NETATOP_BUFFER_H
#define NETATOP_BUFFER_H

#include "kernel.h"
#include "packet.bpf.h"

/* Any type of the kernel's that is an array of bytes. */
#define SOME_BYTES sizeof(struct in6_addr)

static __always_inline __u8 byte_at(const void *from, __u32 offset)
{
	const struct in6_addr *some = bpf_rdonly_cast(from + offset / SOME_BYTES * SOME_BYTES,
						      bpf_core_type_id_kernel(struct in6_addr));

	return some->in6_u.u6_addr8[offset % SOME_BYTES];
}

static __always_inline long read_memory(const void *ip_header, __u32 offset, void *to, __u32 length)
{
	__u8 *bytes = to;

	if (!bpf_rdonly_cast)
		return bpf_probe_read_kernel(to, length, ip_header + offset);
	for (__u32 i = 0; i < length; i++)
		bytes[i] = byte_at(ip_header + offset, i);
	return 0;
}

/* Of a task, from wherever it is; what is behind its end is 0. */
static __always_inline void copy_command(char *to, const char *from)
{
	bool ended = false;

	if (!bpf_rdonly_cast) {
		bpf_probe_read_kernel_str(to, COMMAND_LENGTH, from);
		return;
	}
	for (__u32 i = 0; i < COMMAND_LENGTH; i++) {
		__u8 letter = byte_at(from, i);

		ended = ended || !letter;
		to[i] = ended ? 0 : letter;
	}
}

/* The same as skb_traffic, where a program is given the kernel's own buffer. */
static __always_inline struct traffic buffer_traffic(struct sk_buff *skb,
						     const unsigned char *ip_header)
{
	/* What is left, and what came before it, if the headers were pulled. */
	struct traffic traffic = {1, skb->len + (skb->data - ip_header)};
	const struct skb_shared_info *shared = (void *)(skb->head + skb->end);
	__u16 segments;

	if (bpf_rdonly_cast) {
		shared = bpf_rdonly_cast(shared, bpf_core_type_id_kernel(struct skb_shared_info));
		segments = shared->gso_segs;
	} else {
		segments = BPF_CORE_READ(shared, gso_segs);
	}
	if (segments > 1) {
		traffic.packets = segments;
		traffic.bytes += (__u64)(segments - 1) * header_length(ip_header, read_memory);
	}
	return traffic;
}

#endif
