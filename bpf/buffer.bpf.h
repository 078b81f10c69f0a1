/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The kernel's own buffer of the network stack -> packets, bytes. */
#ifndef NETATOP_BUFFER_H
#define NETATOP_BUFFER_H

#include "kernel.h"
#include "packet.bpf.h"

/* The same as skb_traffic, where a program is given the kernel's own buffer. */
static __always_inline struct traffic buffer_traffic(struct sk_buff *skb,
						     const unsigned char *ip_header)
{
	const struct skb_shared_info *shared = (void *)(skb->head + skb->end);
	/* What is left, and what came before it, if the headers were pulled. */
	struct traffic traffic = {1, skb->len + (skb->data - ip_header)};
	__u16 segments = BPF_CORE_READ(shared, gso_segs);

	if (segments > 1) {
		traffic.packets = segments;
		traffic.bytes += (__u64)(segments - 1) * header_length(ip_header, read_memory);
	}
	return traffic;
}

#endif
