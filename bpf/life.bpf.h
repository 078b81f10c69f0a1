/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The lives of tasks that have used the network: renamed, ended. Others cost one lookup. */
#ifndef NETATOP_LIFE_H
#define NETATOP_LIFE_H

#include "spare.bpf.h"
#include "task.bpf.h"

static __always_inline void rename_task(__u64 identity, struct task_struct *task,
					const char *command)
{
	struct task *record = bpf_map_lookup_elem(&tasks, &identity);

	if (!record)
		return;
	copy_command(record->command, command);
	/* exec in another thread than the main one, which had ended before: its id is used again. */
	if (record->end_time_ns && !(task->flags & PF_EXITING)) {
		record->end_time_ns = 0;
		enter_living(identity, BPF_ANY);
	}
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
	leave_living(identity);
}

/*
 * The thread whose record ends with this task. The main thread ends for one that calls exec, and which
 * goes on under its id and start (fs/exec.c, de_thread): so it is the other one's that ends.
 */
static __always_inline __u64 ending_thread(struct task_struct *task)
{
	struct task_struct *other;

	if (task->pid == task->tgid && bpf_core_field_exists(task->signal->group_exec_task)) {
		other = task->signal->group_exec_task;
		if (other && other != task)
			return thread_identity(other);
	}
	return thread_identity(task);
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

static __always_inline void rename_tasks(struct task_struct *task, const char *command)
{
	if (task->pid == task->tgid)
		rename_task(process_identity(task), task, command);
	if (settings.count_threads)
		rename_task(thread_identity(task), task, command);
}

/* A thread ends, and maybe its process. */
static __always_inline void end_tasks(struct task_struct *task, enum run run)
{
	if (settings.count_threads)
		end_task(ending_thread(task), task->exit_code);
	if (is_counting(task, run, settings.has_spares))
		count_thread(process_identity(task));
	if (has_ended(task))
		end_task(process_identity(task), process_exit_code(task));
}

#endif
