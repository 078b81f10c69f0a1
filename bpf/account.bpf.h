/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * How much: the only functions that write counters which user space reads.
 *
 * Atomic additions everywhere, on per-CPU values too: a program in process context can be
 * interrupted by one in softirq context on the same processor.
 */
#ifndef NETATOP_ACCOUNT_H
#define NETATOP_ACCOUNT_H

#include "add.bpf.h"
#include "maps.bpf.h"

static __always_inline void add_remote(struct task *task, __u32 remote, __u32 direction,
				       struct traffic traffic)
{
	if (!settings.count_remotes || remote >= REMOTES || direction >= DIRECTIONS)
		return;
	add(&task->remotes[remote][direction], traffic);
}

static __always_inline void account_unidentified(enum reason reason, __u32 protocol,
						 __u32 direction, struct traffic traffic)
{
	__u32 key = reason;
	struct counters *counters = bpf_map_lookup_elem(&unidentified, &key);

	if (counters)
		add_traffic(counters, protocol, direction, traffic);
}

/* Packets can join it: it lives, or ended a moment ago. */
static __always_inline bool takes(struct task *task)
{
	return !task->end_time_ns || bpf_ktime_get_boot_ns() - task->end_time_ns <= LATE_NS;
}

/*
 * Add what a lane's word holds to the task with this identity and, if it is a thread, to its process.
 * A task that is no longer in the table, or ended too long ago, has no part in it any more.
 */
static __noinline int account(__u64 identity, __u32 protocol, __u32 direction, __u64 word)
{
	struct traffic traffic = {lane_packets(word), lane_bytes(word)};
	struct task *task = bpf_map_lookup_elem(&tasks, &identity);
	__u64 process;

	if (task && settings.count_threads && identity & IDENTITY_THREAD) {
		add_traffic(&task->counters, protocol, direction, traffic);
		process = task->process;
		task = bpf_map_lookup_elem(&tasks, &process);
	}
	if (task && takes(task)) {
		add_traffic(&task->counters, protocol, direction, traffic);
		add_remote(task, lane_remote(word), direction, traffic);
	} else {
		account_unidentified(identity == IDENTITY_OVERFLOW ? REASON_OVERFLOW :
								     REASON_NO_OWNER,
				     protocol, direction, traffic);
	}
	return 0;
}

static __always_inline void add_tcp(struct task *task, __u64 received, __u64 acknowledged,
				    __u64 retransmits)
{
	__sync_fetch_and_add(&task->tcp.received, received);
	__sync_fetch_and_add(&task->tcp.acknowledged, acknowledged);
	__sync_fetch_and_add(&task->tcp.retransmits, retransmits);
}

/* The layer above, which has no part in the law of conservation: what finds no task is dropped. */
static __noinline int account_tcp(__u64 identity, __u64 received, __u64 acknowledged,
				  __u64 retransmits)
{
	struct task *task = bpf_map_lookup_elem(&tasks, &identity);
	__u64 process;

	if (task && settings.count_threads && identity & IDENTITY_THREAD) {
		add_tcp(task, received, acknowledged, retransmits);
		process = task->process;
		task = bpf_map_lookup_elem(&tasks, &process);
	}
	if (task && takes(task))
		add_tcp(task, received, acknowledged, retransmits);
	return 0;
}

static __always_inline void add_round_trip(struct task *task, __u32 round_trip_us)
{
	__u32 bucket = 0;

	while (bucket < ROUND_TRIP_BUCKETS - 1 && round_trip_us > ROUND_TRIP_FIRST_US << 2 * bucket)
		bucket++;
	__sync_fetch_and_add(&task->round_trips[bucket], 1);
	__sync_fetch_and_add(&task->round_trip_sum_us, round_trip_us);
}

/* One connection that has ended. */
static __noinline int account_round_trip(__u64 identity, __u32 round_trip_us)
{
	struct task *task = bpf_map_lookup_elem(&tasks, &identity);
	__u64 process;

	if (task && settings.count_threads && identity & IDENTITY_THREAD) {
		add_round_trip(task, round_trip_us);
		process = task->process;
		task = bpf_map_lookup_elem(&tasks, &process);
	}
	if (task && takes(task))
		add_round_trip(task, round_trip_us);
	return 0;
}

#endif
