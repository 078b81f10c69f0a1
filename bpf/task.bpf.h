/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Who: tasks, their identities and their records. */
#ifndef NETATOP_TASK_H
#define NETATOP_TASK_H

#include "account.bpf.h"
#include "buffer.bpf.h"
#include "identity.bpf.h"
#include "living.bpf.h"

/* The group leader's start: exec in another thread hands the leader's pid and start over to it. */
static __always_inline __u64 process_identity(struct task_struct *task)
{
	return identity_of(task->tgid, task->group_leader->start_boottime);
}

static __always_inline __u64 thread_identity(struct task_struct *task)
{
	return identity_of(task->pid, task->start_boottime) | IDENTITY_THREAD;
}

static __always_inline __u64 owner_identity(struct task_struct *task)
{
	return settings.count_threads ? thread_identity(task) : process_identity(task);
}

#define MAX_CGROUP_DEPTH 64

/* The same before Linux 6.2. */
static __always_inline bool is_below(struct cgroup *cgroup, int level)
{
	for (int i = 0; i < MAX_CGROUP_DEPTH && BPF_CORE_READ(cgroup, level) > level; i++)
		cgroup = (struct cgroup *)BPF_CORE_READ(cgroup, self.parent);
	return BPF_CORE_READ(cgroup, kn, id) == settings.cgroup_id;
}

/* Is the task in the cgroup that is counted? The root holds everything. */
static __always_inline bool in_scope(struct task_struct *task)
{
	struct cgroup *cgroup = task->cgroups->dfl_cgrp;
	int level = settings.cgroup_level;

	if (!level)
		return true;
	/* `self` is the first member: the parent's state is the parent. */
	if (!bpf_rdonly_cast)
		return is_below(cgroup, level);
	for (int i = 0; i < MAX_CGROUP_DEPTH && cgroup->level > level; i++)
		cgroup = bpf_rdonly_cast(cgroup->self.parent,
					 bpf_core_type_id_kernel(struct cgroup));
	return cgroup->kn->id == settings.cgroup_id;
}

/*
 * The record is filled where it stands, `process` last: until then it is not there for user space,
 * which loses nothing by that, and no socket has this owner yet.
 */
static __noinline bool store_task(__u64 identity, __u64 process, struct task_struct *task)
{
	struct task *record;
	long error;

	if (bpf_map_lookup_elem(&tasks, &identity))
		return true;
	error = bpf_map_update_elem(&tasks, &identity, &blank_task, BPF_NOEXIST);
	if (error == -EEXIST)
		return true;
	record = bpf_map_lookup_elem(&tasks, &identity);
	if (error || !record) {
		lose(error == -E2BIG ? LOSS_TASK_FULL : LOSS_TASK_MEMORY);
		return false;
	}
	record->start_time_ns = task->start_boottime;
	record->cgroup_id = task->cgroups->dfl_cgrp->kn->id;
	record->tgid = task->tgid;
	record->pid = task->pid;
	record->uid = task->cred->uid.val;
	record->remotes_whole = settings.count_remotes;
	copy_command(record->command, task->comm);
	__sync_lock_test_and_set(&record->process, process);
	enter_living(identity, BPF_ANY);
	return true;
}

/*
 * Make sure that the table knows the task, then name it: a socket's owner is set only after
 * its record exists, so a settle that does not find the record knows that the task is gone.
 */
static __always_inline __u64 enter_task(struct task_struct *task)
{
	__u64 process = process_identity(task);

	if (!store_task(process, process, task->group_leader))
		return IDENTITY_OVERFLOW;
	if (!settings.count_threads)
		return process;
	if (!store_task(thread_identity(task), process, task))
		return process;
	return thread_identity(task);
}

#endif
