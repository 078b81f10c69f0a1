/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The options of getsockopt(2) that the kernel module netatop answered, for programs written for it.
 *
 * The kernel calls a cgroup/getsockopt program after its own handler, which knows none of these options and
 * has failed with ENOPROTOOPT. The id that is asked for is then not in the program's buffer, so it is read
 * where the caller has it: the registers of his system call say where that is. The way back is the usual
 * one: with 0 as the result the kernel copies the program's buffer to the caller.
 *
 * Callers of another kind get ENOPROTOOPT, as without us. For a 32-bit one the kernel runs no program
 * (net/socket.c, do_sock_getsockopt); one by way of io_uring has other registers, or none of his own.
 */
#ifndef NETATOP_COMPAT_H
#define NETATOP_COMPAT_H

#include "task.bpf.h"

enum netatop_option {
	NETATOP_PROBE = 15661,
	NETATOP_FORCE_GC,
	NETATOP_EMPTY_EXIT,
	NETATOP_GETCNT_EXIT,
	NETATOP_GETCNT_TGID,
	NETATOP_GETCNT_PID,
};

/* What is asked and answered. Neither of the two protocols has ever had another order. */
struct netpertask {
	__s32 id;
	__u32 _pad;
	__u64 begin; /* seconds since the epoch */
	char command[COMMAND_LENGTH];
	struct {
		struct traffic transmit;
		struct traffic receive;
	} of[PROTOCOL_UDP + 1];
};

/* FIN and its acknowledgement come when a process has ended. With FORCE_GC nobody waits for them. */
#define EXIT_WAITS_NS (1000ULL * 1000 * 1000)

/* As if there were no such program, also where the value is longer than what the kernel shows of it. */
static __always_inline int pass(struct bpf_sockopt *context)
{
	/* Before "bpf: Don't EFAULT for {g,s}setsockopt with wrong optlen" (6.5) it failed untouched. */
	if (context->optlen > context->optval_end - context->optval)
		context->optlen = 0; /* the caller has it already */
	return 1;
}

static __always_inline int end_with(struct bpf_sockopt *context, int result)
{
	context->optlen = 0; /* there is nothing to copy */
	bpf_set_retval(result);
	return 1;
}

/* capable(CAP_NET_ADMIN): in the initial user namespace. Security modules are not asked. */
static __always_inline bool may_ask(struct task_struct *task)
{
	const struct cred *cred = task->cred;
	const struct cred___words *older = (void *)cred;

	if (cred->user_ns->level)
		return false;
	if (bpf_core_field_exists(cred->cap_effective.val))
		return cred->cap_effective.val >> CAP_NET_ADMIN & 1;
	return older->cap_effective.cap[0] >> CAP_NET_ADMIN & 1;
}

/* Where the caller's buffer is; false: he has not called getsockopt(2) for this option himself. */
static __always_inline bool is_asked(struct bpf_sockopt *context, struct task_struct *task,
				     __u64 *at)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);

	if (task->flags & (PF_KTHREAD | PF_IO_WORKER))
		return false;
#if defined(__TARGET_ARCH_x86)
	if ((int)regs->orig_ax == 55 && (int)regs->si == context->level &&
	    (int)regs->dx == context->optname) {
		*at = regs->r10;
		return true;
	}
#elif defined(__TARGET_ARCH_arm64)
	if (regs->syscallno == 209 && (int)regs->regs[1] == context->level &&
	    (int)regs->regs[2] == context->optname) {
		*at = regs->regs[3];
		return true;
	}
#endif
	return false;
}

static __always_inline void take(struct traffic *to, struct task *task, __u32 protocol,
				 __u32 direction)
{
	*to = task->counters.of[protocol][direction];
}

/* As much of it as the caller has room for. */
static __always_inline int answer(struct bpf_sockopt *context, struct task *task, __s32 id)
{
	struct netpertask answer = {.id = id};
	__u32 zero = 0, room = context->optlen;
	__u64 *booted = bpf_map_lookup_elem(&boot_time, &zero);
	__u8 *to = context->optval, *end = context->optval_end;

	if (booted)
		answer.begin = (*booted + task->start_time_ns) / (1000 * 1000 * 1000);
	__builtin_memcpy(answer.command, task->command, COMMAND_LENGTH);
	for (int protocol = PROTOCOL_TCP; protocol <= PROTOCOL_UDP; protocol++) {
		take(&answer.of[protocol].transmit, task, protocol, DIRECTION_TRANSMIT);
		take(&answer.of[protocol].receive, task, protocol, DIRECTION_RECEIVE);
	}
	if (room > sizeof(answer))
		room = sizeof(answer);
	for (__u32 i = 0; i < sizeof(answer); i++) {
		if (i >= room || to + i + 1 > end)
			break;
		to[i] = ((__u8 *)&answer)[i];
	}
	context->optlen = room;
	bpf_set_retval(0);
	return 1;
}

/* The living one with this id, if it has used the network. */
static __always_inline struct task *find_living(__u32 key)
{
	__u64 *identity = bpf_map_lookup_elem(&living, &key), found;
	struct task *task;

	if (!identity)
		return NULL;
	found = *identity;
	task = bpf_map_lookup_elem(&tasks, &found);
	return task && task->process && !task->end_time_ns ? task : NULL;
}

static __always_inline int answer_living(struct bpf_sockopt *context, struct task_struct *caller)
{
	struct task *task;
	__u64 at;
	__u32 key;
	__s32 id;

	if (!is_asked(context, caller, &at))
		return pass(context);
	if (context->optlen < (int)sizeof(id))
		return end_with(context, -EINVAL);
	if (bpf_probe_read_user(&id, sizeof(id), (void *)at))
		return end_with(context, -EFAULT);
	if (id <= 0 || id >= (__s32)IDENTITY_THREAD)
		return end_with(context, -ESRCH);
	key = id;
	/* Where threads are not counted, the main one stands for its process. */
	if (context->optname == NETATOP_GETCNT_PID && settings.count_threads)
		key |= IDENTITY_THREAD;
	task = find_living(key);
	return task ? answer(context, task, id) : end_with(context, -ESRCH);
}

enum next { NEXT_NONE, NEXT_SKIPPED, NEXT_FOUND };

/*
 * The first of the exit list that is not read yet: skipped if its record is gone or about to go, as
 * netatop let go of what nobody read for 15 seconds.
 */
static __always_inline enum next next_exit(struct exit_list *list, __u64 *number, __u64 *identity)
{
	__u64 at = list->read, written = list->written, age;
	struct exited *exited;
	struct task *task;
	__u32 slot;

	if (at >= written)
		return NEXT_NONE;
	if (written - at > EXITS) {
		__sync_val_compare_and_swap(&list->read, at, written - EXITS);
		return NEXT_SKIPPED;
	}
	slot = at & (EXITS - 1);
	exited = bpf_map_lookup_elem(&exits, &slot);
	if (!exited || exited->number <= at)
		return NEXT_NONE; /* it is being written */
	*number = at;
	*identity = exited->identity;
	if (exited->number != at + 1)
		return NEXT_SKIPPED; /* overwritten meanwhile */
	task = bpf_map_lookup_elem(&tasks, identity);
	age = task ? bpf_ktime_get_boot_ns() - task->end_time_ns : LATE_NS;
	if (!task || !task->end_time_ns || age >= LATE_NS) {
		__sync_val_compare_and_swap(&list->read, at, at + 1);
		return NEXT_SKIPPED;
	}
	return NEXT_FOUND;
}

/* What the search in a callback has found. */
struct search {
	enum next next;
	__u64 number;
	__u64 identity;
};

static long search_exit(__u32 index, struct search *search)
{
	__u32 zero = 0;
	struct exit_list *list = bpf_map_lookup_elem(&exit_lists, &zero);

	if (!list)
		return 1;
	search->next = next_exit(list, &search->number, &search->identity);
	return search->next != NEXT_SKIPPED;
}

static __always_inline int answer_exit(struct bpf_sockopt *context, struct exit_list *list)
{
	for (int i = 0; i < 8; i++) {
		struct search search = {};
		struct task *task;

		bpf_loop(EXITS, search_exit, &search, 0);
		if (search.next == NEXT_NONE)
			break;
		if (search.next == NEXT_SKIPPED)
			continue;
		task = bpf_map_lookup_elem(&tasks, &search.identity);
		if (!task)
			continue;
		if (search.number >= list->released &&
		    bpf_ktime_get_boot_ns() - task->end_time_ns < EXIT_WAITS_NS)
			break;
		if (__sync_val_compare_and_swap(&list->read, search.number, search.number + 1) ==
		    search.number) /* else another reader has got it */
			return answer(context, task, task->tgid);
	}
	return pass(context); /* ENOPROTOOPT: netatop's daemon sleeps, and asks again */
}

static __always_inline int empty_exit(struct bpf_sockopt *context)
{
	struct search search = {};

	/*
	 * A program can't wait for the exporter's log, and atop reads none of it after an error. What is
	 * not there yet comes within a moment.
	 */
	if (settings.answer_netatop == ANSWER_AND_READ)
		return end_with(context, 0);
	bpf_loop(EXITS, search_exit, &search, 0);
	return end_with(context, search.next == NEXT_NONE ? 0 : -EAGAIN);
}

static __always_inline int answer_netatop(struct bpf_sockopt *context)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct exit_list *list;
	__u32 zero = 0;

	if (context->level != SOL_IP || context->optname < NETATOP_PROBE ||
	    context->optname > NETATOP_GETCNT_PID || context->retval != -ENOPROTOOPT ||
	    context->sk->family != AF_INET)
		return pass(context); /* of another kind, or answered already */
	list = bpf_map_lookup_elem(&exit_lists, &zero);
	if (!list)
		return pass(context);
	if (!may_ask(task))
		return end_with(context, -EPERM);
	switch (context->optname) {
	case NETATOP_PROBE:
		return end_with(context, 0);
	case NETATOP_FORCE_GC:
		list->released = list->written;
		return end_with(context, 0);
	case NETATOP_EMPTY_EXIT:
		return empty_exit(context);
	case NETATOP_GETCNT_EXIT:
		if (context->optlen < (int)sizeof(__s32))
			return end_with(context, -EINVAL);
		return answer_exit(context, list);
	default:
		return answer_living(context, task);
	}
}

#endif
