/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The tables of the portable object. exporter/kernel/portable.py has them too: with libbpf it sets the
 * sizes, with bcc it makes them all.
 */
#ifndef NETATOP_PORTABLE_MAPS_H
#define NETATOP_PORTABLE_MAPS_H

#include "dialect.h"
#include "fingerprint.h"
#include "portable.h"

#ifndef NETATOP_BCC

const volatile struct portable_settings settings = {.fingerprint = NETATOP_FINGERPRINT};

#define TABLE(name, kind, key_type, value_type) \
	struct { \
		__uint(type, kind); \
		__uint(max_entries, 1); \
		__type(key, key_type); \
		__type(value, value_type); \
	} name SEC(".maps")

TABLE(meters, BPF_MAP_TYPE_HASH, __u64, struct socket_meter);
TABLE(moves, BPF_MAP_TYPE_HASH, __u64, __u64);
TABLE(listeners, BPF_MAP_TYPE_HASH, struct listening, struct listener_of);
TABLE(calls, BPF_MAP_TYPE_HASH, __u64, struct call);
TABLE(tasks, BPF_MAP_TYPE_HASH, __u64, struct task);
TABLE(blank, BPF_MAP_TYPE_ARRAY, __u32, struct task);
TABLE(unidentified, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct counters);
TABLE(lost, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64);
TABLE(last_stray, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64);

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct remote_prefix);
	__type(value, __u32);
} remote_prefixes SEC(".maps");

#endif

#endif
