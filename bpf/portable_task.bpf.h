/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Who, and how much: tasks, their records, and all that is added to counters. */
#ifndef NETATOP_PORTABLE_TASK_H
#define NETATOP_PORTABLE_TASK_H

#include "identity.bpf.h"
#include "portable_maps.bpf.h"

static __always_inline void lose(enum loss what)
{
	__u32 key = what;
	__u64 *count = bpf_map_lookup_elem(MAP(lost), &key);

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
	/* A bound that was checked before, the verifier of Linux 5.10 has forgotten by now. */
	add(&counters->of[protocol & (PROTOCOLS - 1)][direction & 1], traffic);
}

static __always_inline struct task *find_task(__u64 identity)
{
	return bpf_map_lookup_elem(MAP(tasks), &identity);
}

static __always_inline void account_unidentified(enum reason reason, __u32 protocol,
						 __u32 direction, struct traffic traffic)
{
	__u32 key = reason;
	struct counters *counters = bpf_map_lookup_elem(MAP(unidentified), &key);

	if (counters)
		add_traffic(counters, protocol, direction, traffic);
}

/* Packets can join it: it lives, or ended a moment ago. */
static __always_inline bool takes(struct task *task)
{
	return !task->end_time_ns || since_boot() - task->end_time_ns <= LATE_NS;
}

/* Packets of one protocol, direction and class of remote addresses, given to their task. */
static __always_inline void account(__u64 identity, __u32 protocol, __u32 direction,
				    struct traffic traffic, __u32 remote)
{
	struct task *task = find_task(identity);

	if (SETTING(count_threads) && task && identity & IDENTITY_THREAD) {
		add_traffic(&task->counters, protocol, direction, traffic);
		task = find_task(task->process);
	}
	if (!task || !takes(task)) {
		account_unidentified(identity == IDENTITY_OVERFLOW ? REASON_OVERFLOW :
								     REASON_NO_OWNER,
				     protocol, direction, traffic);
		return;
	}
	add_traffic(&task->counters, protocol, direction, traffic);
	if (SETTING(count_remotes))
		add(&task->remotes[remote & (REMOTES - 1)][direction & 1], traffic);
}

/* Tasks are known by their address: what is read of them may be read of any kernel. */

/* The group leader's start: exec in another thread hands the leader's pid and start over to it. */
static __always_inline __u64 process_identity(__u64 task)
{
	return identity_of(read_task_tgid(task), task_start(read_task_leader(task)));
}

static __always_inline __u64 thread_identity(__u64 task)
{
	return identity_of(read_task_pid(task), task_start(task)) | IDENTITY_THREAD;
}

static __always_inline __u64 owner_identity(__u64 task)
{
	return SETTING(count_threads) ? thread_identity(task) : process_identity(task);
}

#define MAX_CGROUP_DEPTH 64

static __always_inline __u64 task_cgroup(__u64 task)
{
	return read_css_cgroup(read_task_cgroups(task));
}

/* Is the task in the cgroup that is counted? The root holds everything. */
static __always_inline bool in_scope(__u64 task)
{
	__u64 cgroup;

	if (!SETTING(cgroup_level))
		return true;
	cgroup = task_cgroup(task);
	/* `self` is the first member: the parent's state is the parent. */
#pragma clang loop unroll(disable)
	for (int i = 0; i < MAX_CGROUP_DEPTH; i++) {
		if (read_cgroup_level(cgroup) <= SETTING(cgroup_level))
			break;
		cgroup = read_cgroup_parent(cgroup);
	}
	return node_id(read_cgroup_node(cgroup)) == SETTING(cgroup_id);
}

/*
 * The record is filled where it stands, `process` last: until then it is not there for user space,
 * which loses nothing by that, and no socket has this owner yet.
 */
static __always_inline bool store_task(__u64 identity, __u64 process, __u64 task)
{
	struct task *record, *fresh;
	__u32 zero = 0;
	long error;

	if (find_task(identity))
		return true;
	fresh = bpf_map_lookup_elem(MAP(blank), &zero);
	if (!fresh)
		return false; /* for the verifier */
	error = bpf_map_update_elem(MAP(tasks), &identity, fresh, BPF_NOEXIST);
	if (error == -EEXIST)
		return true;
	record = find_task(identity);
	if (error || !record) {
		lose(LOSS_TASK_FULL);
		return false;
	}
	record->start_time_ns = task_start(task);
	record->cgroup_id = node_id(read_cgroup_node(task_cgroup(task)));
	record->tgid = read_task_tgid(task);
	record->pid = read_task_pid(task);
	record->uid = read_cred_uid(read_task_cred(task));
	record->remotes_whole = SETTING(count_remotes);
	bpf_probe_read_kernel_str(record->command, sizeof(record->command),
				  place_task_command(task));
	*(volatile __u64 *)&record->process = process;
	return true;
}

/* Make sure that the table knows the task, then name it: as in task.bpf.h. */
static __always_inline __u64 enter_task(__u64 task, __u64 process)
{
	__u64 thread;

	if (!store_task(process, process, read_task_leader(task)))
		return IDENTITY_OVERFLOW;
	if (!SETTING(count_threads))
		return process;
	thread = thread_identity(task);
	return store_task(thread, process, task) ? thread : process;
}

/* The lives of tasks that have used the network. Others cost one look-up. */

static __always_inline void rename_task(__u64 identity, __u64 task, const void *command)
{
	struct task *record = find_task(identity);

	if (!record)
		return;
	bpf_probe_read_kernel_str(record->command, sizeof(record->command), command);
	/* exec in another thread than the main one, which had ended before: its id is used again. */
	if (record->end_time_ns && !(read_task_flags(task) & PF_EXITING))
		record->end_time_ns = 0;
}

/* The record stays where it is; user space removes it when nothing can join it any more. */
static __always_inline void end_task(__u64 identity, __u32 exit_code)
{
	struct task *record = find_task(identity);

	if (!record || record->end_time_ns)
		return;
	record->exit_code = exit_code;
	record->end_time_ns = since_boot();
}

/* The main thread ends for one that calls exec, and which goes on under its id: as in life.bpf.h. */
static __always_inline __u64 ending_thread(__u64 task)
{
	__u64 other;

	if (has_signal_exec_task() && read_task_pid(task) == read_task_tgid(task)) {
		other = read_signal_exec_task(read_task_signal(task));
		if (other && other != task)
			return thread_identity(other);
	}
	return thread_identity(task);
}

/* The last thread of the process has begun to exit. */
static __always_inline bool has_ended(__u64 task)
{
	return read_signal_live(read_task_signal(task)) == 0;
}

/* The status that wait(2) reports (kernel/exit.c, wait_task_zombie) */
static __always_inline __u32 process_exit_code(__u64 task)
{
	__u64 signal = read_task_signal(task);

	return read_signal_flags(signal) & SIGNAL_GROUP_EXIT ?
		       read_signal_exit_code(signal) :
		       read_task_exit_code(read_task_leader(task));
}

static __always_inline void exit_task(__u64 task)
{
	__u64 process = process_identity(task);
	struct task *record;

	if (SETTING(count_threads))
		end_task(ending_thread(task), read_task_exit_code(task));
	record = find_task(process);
	if (!record)
		return;
	__sync_fetch_and_add(&record->threads, 1);
	if (has_ended(task))
		end_task(process, process_exit_code(task));
}

#endif
