/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The table of IP addresses, for every object. The loader makes room, and puts in HOST_REST. */
#ifndef NETATOP_HOST_H
#define NETATOP_HOST_H

#include "add.bpf.h"
#include "address.bpf.h"

/* Per processor: the address of this host is written by all of them. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct host_key);
	__type(value, struct host);
} hosts SEC(".maps");

/* A new entry: too large for the stack. */
const struct host blank_host SEC(".rodata.blank") = {};

static __always_inline struct host_key host_key(union address address, __u32 device)
{
	struct host_key key = {.device = device};

	__builtin_memcpy(key.address, &address, sizeof(key.address));
	return key;
}

/* NULL: the kernel has no memory for it, which is counted. */
static __always_inline struct host *find_host(const struct host_key *key)
{
	struct host *host = bpf_map_lookup_elem(&hosts, key);
	long code;

	if (host)
		return host;
	code = bpf_map_update_elem(&hosts, key, &blank_host, BPF_NOEXIST);
	host = bpf_map_lookup_elem(&hosts, key); /* ours, or another processor's */
	if (!host)
		lose(code == -E2BIG ? LOSS_HOST_FULL : LOSS_HOST_MEMORY);
	return host;
}

static __always_inline void add_host(const struct host_key *key, __u32 protocol, __u32 direction,
				     struct traffic traffic)
{
	union address nowhere = {};
	struct host_key rest;
	struct host *host = find_host(key);
	__u64 tick = bpf_jiffies64();

	if (!host) {
		rest = host_key(nowhere, HOST_REST);
		host = bpf_map_lookup_elem(&hosts, &rest);
	}
	if (!host)
		return; /* for the verifier: the loader has put it in */
	add_traffic(&host->counters, protocol, direction, traffic);
	if (host->tick == tick)
		return;
	host->tick = tick;
	host->last_time_ns = bpf_ktime_get_boot_ns();
}

#endif
