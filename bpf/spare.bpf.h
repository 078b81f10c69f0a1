/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Two programs at one tracepoint, for each event both. The kernel skips a program where it would run a
 * second time at once on a processor: where a softirq interrupts it (drop_stray, follow_state), and since
 * Linux 7.0, which can preempt the programs of tracepoints, for all tasks that have their turn until the
 * first one goes on. While one of the two is skipped the other runs.
 */
#ifndef NETATOP_SPARE_H
#define NETATOP_SPARE_H

#include "kernel.h"

enum run { RUN_FIRST, RUN_SPARE };

/* Of a task: nonzero between the two runs. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} runs SEC(".maps");

/*
 * Is it this run that counts what may be counted only once? The spare's, if the first was skipped. Most
 * of what is done twice is done once by that: it asks only where it adds.
 */
static __always_inline bool is_counting(struct task_struct *task, enum run run, bool has_spares)
{
	__u64 *has_run;

	if (!has_spares)
		return true;
	has_run = bpf_task_storage_get(&runs, task, 0,
				       run == RUN_FIRST ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	if (run == RUN_FIRST) {
		if (has_run)
			*has_run = 1;
		return has_run;
	}
	if (!has_run || !*has_run)
		return true;
	*has_run = 0;
	return false;
}

#endif
