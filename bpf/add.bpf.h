/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Additions, for every object.
 *
 * Atomic everywhere, on per-CPU values too: a program in process context can be interrupted by one in
 * softirq context on the same processor.
 */
#ifndef NETATOP_ADD_H
#define NETATOP_ADD_H

#include "kernel.h"
#include "netatop.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LOSSES);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

static __always_inline void lose(enum loss what)
{
	__u32 key = what;
	__u64 *count = bpf_map_lookup_elem(&lost, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
}

static __always_inline void add(struct traffic *to, struct traffic traffic)
{
	__sync_fetch_and_add(&to->packets, traffic.packets);
	__sync_fetch_and_add(&to->bytes, traffic.bytes);
}

static __always_inline void add_traffic(struct counters *counters, __u32 protocol, __u32 direction,
					struct traffic traffic)
{
	if (protocol >= PROTOCOLS || direction >= DIRECTIONS)
		return; /* for the verifier: no caller has others */
	add(&counters->of[protocol][direction], traffic);
}

#endif
