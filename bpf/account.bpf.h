/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * How much: the only functions that write counters which user space reads.
 *
 * Atomic additions everywhere, on per-CPU values too: a program in process context can be
 * interrupted by one in softirq context on the same processor.
 */
#ifndef NETATOP_ACCOUNT_H
#define NETATOP_ACCOUNT_H

#include "maps.bpf.h"

static __always_inline void lose(enum loss what)
{
	__u32 key = what;
	__u64 *count = bpf_map_lookup_elem(&lost, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
}

static __always_inline void add_traffic(struct counters *counters, __u32 protocol, __u32 direction,
					struct traffic traffic)
{
	struct traffic *to;

	if (protocol >= PROTOCOLS || direction >= DIRECTIONS)
		return; /* for the verifier: no caller has others */
	to = &counters->of[protocol][direction];
	__sync_fetch_and_add(&to->packets, traffic.packets);
	__sync_fetch_and_add(&to->bytes, traffic.bytes);
}

static __always_inline void account_unidentified(enum reason reason, __u32 protocol,
						 __u32 direction, struct traffic traffic)
{
	__u32 key = reason;
	struct counters *counters = bpf_map_lookup_elem(&unidentified, &key);

	if (counters)
		add_traffic(counters, protocol, direction, traffic);
}

/*
 * Add to the task with this identity and, if it is a thread, to its process. A task that is no
 * longer in the table, or ended too long ago, has no part in it any more.
 */
static __noinline int account(__u64 identity, __u32 protocol, __u32 direction, __u64 packets,
			      __u64 bytes)
{
	struct traffic traffic = {packets, bytes};
	struct task *task = bpf_map_lookup_elem(&tasks, &identity);
	__u64 process;

	if (task && settings.count_threads && identity & IDENTITY_THREAD) {
		add_traffic(&task->counters, protocol, direction, traffic);
		process = task->process;
		task = bpf_map_lookup_elem(&tasks, &process);
	}
	if (task && task->end_time_ns && bpf_ktime_get_boot_ns() - task->end_time_ns > LATE_NS)
		task = NULL;
	if (task)
		add_traffic(&task->counters, protocol, direction, traffic);
	else
		account_unidentified(identity == IDENTITY_OVERFLOW ? REASON_OVERFLOW :
								     REASON_NO_OWNER,
				     protocol, direction, traffic);
	return 0;
}

#endif
