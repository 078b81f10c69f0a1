// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Events in the lives of processes and threads, for one watcher: each loads an object of its own, with
 * its filter compiled in, so one that is slow loses events only of itself. An exporter that counts them
 * is one, too.
 */
#include "buffer.bpf.h"
#include "fingerprint.h"
#include "kernel.h"
#include "spare.bpf.h"
#include "watch.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

const volatile struct life_filter filter = {.fingerprint = NETATOP_FINGERPRINT};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} lives SEC(".maps");

/* Events that found the ring full. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} missed SEC(".maps");

/* The watched process and its descendants, by tgid. The loader puts in those that there are. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 16);
	__type(key, __u32);
	__type(value, __u8);
} tree SEC(".maps");

/* The loader puts in the key of the rest, for whom there is no room. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, struct life_key);
	__type(value, struct life_counts);
} counts SEC(".maps");

static __always_inline bool is_telling(enum run run)
{
	return is_counting(bpf_get_current_task_btf(), run, filter.how & LIFE_SPARES);
}

static __always_inline bool is_watched(__u32 tgid)
{
	if (!filter.tgid)
		return true;
	if (!(filter.how & LIFE_TREE))
		return tgid == filter.tgid;
	return bpf_map_lookup_elem(&tree, &tgid);
}

static __always_inline bool has_command(const char *command)
{
	if (!filter.command[0])
		return true;
	for (int i = 0; i < COMMAND_LENGTH; i++) {
		if (command[i] != filter.command[i])
			return false;
		if (!command[i])
			break;
	}
	return true;
}

static __always_inline void miss(void)
{
	__u32 key = 0;
	__u64 *count = bpf_map_lookup_elem(&missed, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
}

static __noinline int count(struct life_key *key, __u32 event)
{
	struct life_counts fresh = {}, *counted;
	struct life_key rest = {};

	if (!key || event >= LIFE_EVENTS)
		return 0; /* for the verifier */
	counted = bpf_map_lookup_elem(&counts, key);
	if (!counted) {
		bpf_map_update_elem(&counts, key, &fresh, BPF_NOEXIST);
		counted = bpf_map_lookup_elem(&counts, key) ?: bpf_map_lookup_elem(&counts, &rest);
	}
	if (counted)
		__sync_fetch_and_add(&counted->of[event], 1);
	return 0;
}

static __always_inline void count_life(enum life_event event, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	struct life_key key = {};

	key.cgroup_id = leader->cgroups->dfl_cgrp->kn->id;
	key.uid = leader->cred->uid.val;
	copy_command(key.command, leader->comm);
	count(&key, event);
}

static __always_inline void tell(enum life_event event, struct task_struct *task, __u32 parent,
				 __u32 exit_code)
{
	char command[COMMAND_LENGTH] = {};
	struct life *life;

	if (!(filter.events & 1U << event))
		return;
	if (filter.how & LIFE_COUNT) {
		count_life(event, task);
		return;
	}
	copy_command(command, task->comm);
	if (!has_command(command))
		return;
	life = bpf_ringbuf_reserve(&lives, sizeof(*life), 0);
	if (!life) {
		miss();
		return;
	}
	life->time_ns = bpf_ktime_get_boot_ns();
	life->start_time_ns = task->start_boottime;
	life->tgid = task->tgid;
	life->pid = task->pid;
	life->parent = parent;
	life->uid = task->cred->uid.val;
	life->exit_code = exit_code;
	life->event = event;
	life->cgroup_id = task->cgroups->dfl_cgrp->kn->id;
	__builtin_memcpy(life->command, command, sizeof(command));
	bpf_ringbuf_submit(life, 0);
}

/* A fork is the parent's: what the child does is watched only with the tree. */
static __always_inline int tell_fork(struct task_struct *parent, struct task_struct *child)
{
	__u32 tgid = child->tgid, forker = parent->tgid;
	__u8 there = 1;

	if (tgid == forker) {
		if (is_watched(tgid))
			tell(LIFE_EVENT_THREAD_CREATE, child, child->real_parent->tgid, 0);
		return 0;
	}
	if (!is_watched(forker))
		return 0;
	if ((filter.how & LIFE_TREE) && bpf_map_update_elem(&tree, &tgid, &there, BPF_ANY))
		miss();
	tell(LIFE_EVENT_FORK, child, forker, 0);
	return 0;
}

static __always_inline int tell_exec(struct task_struct *task)
{
	if (is_watched(task->tgid))
		tell(LIFE_EVENT_EXEC, task, task->real_parent->tgid, 0);
	return 0;
}

/* After the count of living threads went down (kernel/exit.c): the last one ends the process. */
static __always_inline int tell_exit(struct task_struct *task)
{
	struct signal_struct *signal = task->signal;
	__u32 tgid = task->tgid, parent = task->real_parent->tgid, code;

	if (!is_watched(tgid))
		return 0;
	if (task->pid != task->tgid)
		tell(LIFE_EVENT_THREAD_EXIT, task, parent, task->exit_code);
	if (signal->live.counter)
		return 0;
	/* The status that wait(2) reports (kernel/exit.c, wait_task_zombie). */
	code = signal->flags & SIGNAL_GROUP_EXIT ? signal->group_exit_code :
						   task->group_leader->exit_code;
	tell(code & 0x7f ? LIFE_EVENT_ABORT : LIFE_EVENT_EXIT, task->group_leader, parent, code);
	if (filter.how & LIFE_TREE)
		bpf_map_delete_elem(&tree, &tgid);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(watch_fork, struct task_struct *parent, struct task_struct *child)
{
	return is_telling(RUN_FIRST) ? tell_fork(parent, child) : 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(watch_fork_spare, struct task_struct *parent, struct task_struct *child)
{
	return is_telling(RUN_SPARE) ? tell_fork(parent, child) : 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(watch_exec, struct task_struct *task)
{
	return is_telling(RUN_FIRST) ? tell_exec(task) : 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(watch_exec_spare, struct task_struct *task)
{
	return is_telling(RUN_SPARE) ? tell_exec(task) : 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(watch_exit, struct task_struct *task)
{
	return is_telling(RUN_FIRST) ? tell_exit(task) : 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(watch_exit_spare, struct task_struct *task)
{
	return is_telling(RUN_SPARE) ? tell_exit(task) : 0;
}
