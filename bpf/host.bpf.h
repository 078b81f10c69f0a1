/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The table of IP addresses, for every object. The loader makes room, and puts in HOST_REST. */
#ifndef NETATOP_HOST_H
#define NETATOP_HOST_H

#include "add.bpf.h"
#include "address.bpf.h"

#ifndef HOSTS_FLAGS
#define HOSTS_FLAGS BPF_F_NO_PREALLOC
#endif

/* Per processor: the address of this host is written by all of them. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, HOSTS_FLAGS);
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

/* Of a walk over connections or sockets: one more that the address has. */
static __always_inline void count_connection_of(struct host *host, __u64 walk, __u32 protocol)
{
	if (host->walk != walk) {
		host->walk = walk;
		__builtin_memset(host->connections, 0, sizeof(host->connections));
	}
	host->connections[protocol & (PROTOCOLS - 1)]++;
}

/* NULL: there is no room for it, or no memory, as *error says. */
static __always_inline struct host *find_host(const struct host_key *key, long *error)
{
	struct host *host = bpf_map_lookup_elem(&hosts, key);

	if (host)
		return host;
	*error = bpf_map_update_elem(&hosts, key, &blank_host, BPF_NOEXIST);
	return bpf_map_lookup_elem(&hosts, key); /* ours, or another processor's */
}

static __always_inline void add_host(const struct host_key *key, __u32 protocol, __u32 direction,
				     struct traffic traffic)
{
	union address nowhere = {};
	struct host_key rest;
	__u64 tick = bpf_jiffies64();
	struct host *host;
	long error = 0;

	host = find_host(key, &error);
	if (!host) {
		lose(error == -E2BIG ? LOSS_HOST_FULL : LOSS_HOST_MEMORY);
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
