/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Totals of an earlier version, whose tables have other layouts, added to ours. Each once: what was
 * adopted is noted in the same run, so whoever is interrupted in the middle may do it all again.
 */
#ifndef NETATOP_ADOPT_H
#define NETATOP_ADOPT_H

#include "account.bpf.h"
#include "living.bpf.h"

/*
 * What was counted while classes were not is in none. Unrolled, because a program's context can be
 * read at fixed places only.
 */
static __always_inline void add_remotes(struct task *to, struct task *from)
{
	if (!settings.count_remotes)
		return;
	if (!from->remotes_whole)
		to->remotes_whole = 0;
#pragma clang loop unroll(full)
	for (int i = 0; i < REMOTES * DIRECTIONS; i++)
		add_remote(to, i / DIRECTIONS, i % DIRECTIONS,
			   from->remotes[i / DIRECTIONS][i % DIRECTIONS]);
}

static __always_inline void add_record(struct task *to, struct task *from)
{
	add_remotes(to, from);
	for (int protocol = 0; protocol < PROTOCOLS; protocol++)
		for (int direction = 0; direction < DIRECTIONS; direction++)
			add_traffic(&to->counters, protocol, direction,
				    from->counters.of[protocol][direction]);
	add_tcp(to, from->tcp.received, from->tcp.acknowledged, from->tcp.retransmits);
	for (int i = 0; i < ROUND_TRIP_BUCKETS; i++)
		__sync_fetch_and_add(&to->round_trips[i], from->round_trips[i]);
	__sync_fetch_and_add(&to->round_trip_sum_us, from->round_trip_sum_us);
	__sync_fetch_and_add(&to->threads, from->threads);
	__sync_fetch_and_add(&to->sockets, from->sockets);
}

static __always_inline long adopt_task(struct adoption *adoption)
{
	__u64 identity = adoption->identity;
	struct task *record = bpf_map_lookup_elem(&tasks, &identity);
	__u8 done = 1;
	long error;

	if (!record) {
		error = bpf_map_update_elem(&tasks, &identity, &blank_task, BPF_NOEXIST);
		record = bpf_map_lookup_elem(&tasks, &identity);
		if (!record) {
			lose(error == -E2BIG ? LOSS_TASK_FULL : LOSS_TASK_MEMORY);
			return error;
		}
	}
	if (!record->process) {
		record->start_time_ns = adoption->task.start_time_ns;
		record->cgroup_id = adoption->task.cgroup_id;
		record->tgid = adoption->task.tgid;
		record->pid = adoption->task.pid;
		record->uid = adoption->task.uid;
		record->remotes_whole = settings.count_remotes;
		__builtin_memcpy(record->command, adoption->task.command, COMMAND_LENGTH);
	}
	if (!bpf_map_update_elem(&adopted, &identity, &done, BPF_NOEXIST))
		add_record(record, &adoption->task);
	if (adoption->task.end_time_ns && !record->end_time_ns) {
		record->exit_code = adoption->task.exit_code;
		record->end_time_ns = adoption->task.end_time_ns;
		leave_living(identity);
	}
	if (!record->end_time_ns)
		enter_living(identity, BPF_NOEXIST);
	if (!record->process)
		__sync_lock_test_and_set(&record->process, adoption->task.process);
	return 0;
}

/* Counters that belong to no task are named by small numbers, which no identity is. */
static __always_inline long adopt_nobodys(struct adoption *adoption)
{
	__u64 number = adoption->identity;
	__u32 loss = number - ADOPT_LOST;
	__u8 done = 1;
	__u64 *count;

	if (bpf_map_update_elem(&adopted, &number, &done, BPF_NOEXIST))
		return 0;
	if (number >= ADOPT_LOST) {
		count = bpf_map_lookup_elem(&lost, &loss);
		if (count)
			__sync_fetch_and_add(count, adoption->task.counters.of[0][0].packets);
		return 0;
	}
	for (int protocol = 0; protocol < PROTOCOLS; protocol++)
		for (int direction = 0; direction < DIRECTIONS; direction++)
			account_unidentified(number, protocol, direction,
					     adoption->task.counters.of[protocol][direction]);
	return 0;
}

#endif
