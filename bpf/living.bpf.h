/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Where netatop's options are answered: records of the living by their id alone, and the list of the ended.
 *
 * An id is used again only after its task has been reaped, long after its end was noted here.
 */
#ifndef NETATOP_LIVING_H
#define NETATOP_LIVING_H

#include "account.bpf.h"

static __always_inline __u32 living_key(__u64 identity)
{
	return identity & (IDENTITY_THREAD | (IDENTITY_THREAD - 1));
}

/* flags: BPF_ANY, or BPF_NOEXIST for one that may be of the past */
static __always_inline void enter_living(__u64 identity, __u64 flags)
{
	__u32 key = living_key(identity);
	long error;

	if (!settings.answer_netatop)
		return;
	error = bpf_map_update_elem(&living, &key, &identity, flags);
	if (error && error != -EEXIST)
		lose(error == -E2BIG ? LOSS_TASK_FULL : LOSS_TASK_MEMORY);
}

static __always_inline void list_exit(__u64 identity)
{
	__u32 zero = 0, slot;
	struct exit_list *list = bpf_map_lookup_elem(&exit_lists, &zero);
	struct exited *exited;
	__u64 number;

	if (!list)
		return;
	number = __sync_fetch_and_add(&list->written, 1);
	slot = number & (EXITS - 1);
	exited = bpf_map_lookup_elem(&exits, &slot);
	if (!exited)
		return;
	__sync_lock_test_and_set(&exited->identity, identity);
	__sync_lock_test_and_set(&exited->number, number + 1);
}

static __always_inline void leave_living(__u64 identity)
{
	__u32 key = living_key(identity);
	__u64 *found;

	if (!settings.answer_netatop)
		return;
	found = bpf_map_lookup_elem(&living, &key);
	if (found && *found == identity)
		bpf_map_delete_elem(&living, &key);
	if (!(identity & IDENTITY_THREAD))
		list_exit(identity);
}

#endif
