/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The lives of tasks that have used the network: renamed, ended. Others cost one lookup. */
#ifndef NETATOP_LIFE_H
#define NETATOP_LIFE_H

#include "task.bpf.h"

static __always_inline void rename_task(__u64 identity, const char *command)
{
	struct task *record = bpf_map_lookup_elem(&tasks, &identity);

	if (record)
		bpf_probe_read_kernel_str(record->command, sizeof(record->command), command);
}

/*
 * The record stays where it is and becomes part of the exit list: what its sockets still send and
 * receive finds it by the same key. User space removes it when nothing can join it any more.
 */
static __always_inline void end_task(__u64 identity, __u32 exit_code)
{
	struct task *record = bpf_map_lookup_elem(&tasks, &identity);

	if (!record || record->end_time_ns)
		return;
	record->exit_code = exit_code;
	record->end_time_ns = bpf_ktime_get_boot_ns();
}

static __always_inline void count_thread(__u64 process)
{
	struct task *record = bpf_map_lookup_elem(&tasks, &process);

	if (record)
		__sync_fetch_and_add(&record->threads, 1);
}

/* The last thread of the process has begun to exit. */
static __always_inline bool has_ended(struct task_struct *task)
{
	return task->signal->live.counter == 0;
}

/* The status that wait(2) reports (kernel/exit.c, wait_task_zombie) */
static __always_inline __u32 process_exit_code(struct task_struct *task)
{
	struct signal_struct *signal = task->signal;

	return signal->flags & SIGNAL_GROUP_EXIT ? signal->group_exit_code :
						   task->group_leader->exit_code;
}

#endif
