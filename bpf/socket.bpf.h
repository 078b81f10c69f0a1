/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Where: sockets, their owners, and the counters that wait in them until they are settled.
 *
 * `void *sk`: what the verifier takes for a socket differs from one kind of program to the next.
 */
#ifndef NETATOP_SOCKET_H
#define NETATOP_SOCKET_H

#include "account.bpf.h"
#include "packet.bpf.h"
#include "task.bpf.h"

/* Until a direction has its own user, it goes with the other's, and before that with the creator. */
static __always_inline __u64 user_of(struct owner *owner, __u32 direction)
{
	__u64 user = owner->user[direction & 1];

	if (!user)
		user = owner->user[!direction];
	if (!user)
		user = owner->user[USER_CREATOR];
	return user;
}

/* Take what is pending and give it to its user: exact against packets and other settles. */
static __always_inline void settle_lane(struct pending *pending, struct owner *owner,
					__u32 direction)
{
	struct lane *lane = &pending->lane[direction & 1];
	__u64 word = __sync_fetch_and_and(&lane->word, LANE_AT_ONCE) & ~LANE_AT_ONCE;
	__u64 packets = word & LANE_PACKETS, bytes = word >> LANE_BYTES_SHIFT;

	if (!packets)
		return;
	__sync_fetch_and_add(&lane->settled_packets, packets);
	__sync_fetch_and_add(&lane->settled_bytes, bytes);
	account(owner ? user_of(owner, direction) : IDENTITY_NOBODY, pending->protocol, direction,
		packets, bytes);
}

static __always_inline void settle(struct pending *pending, struct owner *owner)
{
	settle_lane(pending, owner, DIRECTION_RECEIVE);
	settle_lane(pending, owner, DIRECTION_TRANSMIT);
}

/* Settle for the last time: a packet that comes later finds the mark and settles itself. */
static __always_inline void close_pending(struct pending *pending, struct owner *owner)
{
	__sync_fetch_and_or(&pending->lane[DIRECTION_RECEIVE].word, LANE_AT_ONCE);
	__sync_fetch_and_or(&pending->lane[DIRECTION_TRANSMIT].word, LANE_AT_ONCE);
	settle(pending, owner);
}

/*
 * The last chance before a socket's storage vanishes. A packet that is under way on another
 * processor was added before the mark and is settled here, or finds the mark and settles itself; one
 * that makes the counters only now looks for `released` when it has made them.
 */
static __always_inline void settle_for_good(void *sk)
{
	struct owner *owner = bpf_sk_storage_get(&owners, sk, 0, 0);
	struct pending *pending;
	__u64 released;

	if (!owner)
		return;
	/* The old value is asked for because only that orders this before the look-up (on arm64). */
	released = __sync_fetch_and_or(&owner->released, 1);
	barrier_var(released);
	pending = bpf_sk_storage_get(&pendings, sk, 0, 0);
	if (!pending)
		return;
	close_pending(pending, owner);
}

/*
 * From now on the task uses the socket in this way. What is pending was the former user's; what
 * arrives between the two steps is the new one's. Kernel threads own nothing: what they do with a
 * process's socket they do for it, and their own sockets are the kernel's. A task outside the counted
 * cgroup owns only what it was handed from inside.
 */
static __always_inline void claim(void *sk, struct task_struct *task, enum user how)
{
	struct owner *owner = bpf_sk_storage_get(&owners, sk, 0, 0);
	struct pending *pending;
	__u64 identity;

	if (owner && owner->user[how] == owner_identity(task))
		return;
	/* The direction was the task's already, by the other direction or as its creator. */
	if (owner && how != USER_CREATOR && user_of(owner, how) == owner_identity(task)) {
		owner->user[how] = owner_identity(task);
		return;
	}
	if (task->flags & PF_KTHREAD || (!owner && !in_scope(task)))
		return;
	if (!owner)
		owner = bpf_sk_storage_get(&owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner) {
		lose(LOSS_OWNER_MEMORY);
		return;
	}
	identity = enter_task(task);
	pending = bpf_sk_storage_get(&pendings, sk, 0, 0);
	if (pending)
		settle(pending, owner);
	if (how == USER_CREATOR)
		owner->user[USER_RECEIVES] = owner->user[USER_TRANSMITS] = IDENTITY_NOBODY;
	owner->user[how] = identity;
}

/* A closed TCP socket may connect or listen again: its packets may wait again. */
static __always_inline void reopen(void *sk)
{
	struct owner *owner = bpf_sk_storage_get(&owners, sk, 0, 0);
	struct pending *pending = bpf_sk_storage_get(&pendings, sk, 0, 0);

	if (!owner || !owner->released)
		return;
	owner->released = 0;
	if (!pending)
		return;
	__sync_fetch_and_and(&pending->lane[DIRECTION_RECEIVE].word, ~LANE_AT_ONCE);
	__sync_fetch_and_and(&pending->lane[DIRECTION_TRANSMIT].word, ~LANE_AT_ONCE);
}

static __always_inline void change_state(struct sock *sk, int old_state, int new_state)
{
	if (new_state == TCP_CLOSE) {
		settle_for_good(sk);
	} else if (old_state == TCP_CLOSE &&
		   (new_state == TCP_SYN_SENT || new_state == TCP_LISTEN)) {
		reopen(sk);
		claim(sk, bpf_get_current_task_btf(), USER_CREATOR);
	}
}

static __always_inline bool is_kernel_socket(struct bpf_sock *sk)
{
	struct sock *kernel_sk;

	if (!bpf_rdonly_cast)
		return false; /* before 6.2: called no_owner */
	kernel_sk = bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct sock));
	return BPF_CORE_READ_BITFIELD(kernel_sk, sk_kern_sock);
}

static __always_inline void add_pending(struct lane *lane, struct pending *pending, void *sk,
					struct traffic traffic)
{
	__u64 before = __sync_fetch_and_add(&lane->word,
					    traffic.bytes << LANE_BYTES_SHIFT | traffic.packets);

	if (before & LANE_HURRY)
		settle(pending, bpf_sk_storage_get(&owners, sk, 0, 0));
}

/* A packet of a socket that has no counters of its own, yet or ever. */
static __noinline int count_aside(struct __sk_buff *skb, __u32 direction)
{
	struct traffic traffic = skb_traffic(skb);
	struct pending fresh = {}, *pending;
	struct bpf_sock *sk = skb->sk;
	struct owner *owner;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0; /* for the verifier: these programs run for full sockets only */
	owner = bpf_sk_storage_get(&owners, sk, 0, 0);
	if (!owner) {
		/* Never pending: the kernel's own sockets end without a word to anybody. */
		account_unidentified(is_kernel_socket(sk) ? REASON_KERNEL : REASON_NO_OWNER,
				     skb_protocol(skb), direction, traffic);
		return 0;
	}
	if (sk->type == SOCK_RAW) {
		account(user_of(owner, direction), skb_protocol(skb), direction, traffic.packets,
			traffic.bytes);
		return 0;
	}
	fresh.protocol = protocol_of(sk->protocol);
	pending = bpf_sk_storage_get(&pendings, sk, &fresh, BPF_SK_STORAGE_GET_F_CREATE);
	if (!pending) {
		lose(LOSS_SOCKET_MEMORY);
		account(user_of(owner, direction), fresh.protocol, direction, traffic.packets,
			traffic.bytes);
		return 0;
	}
	add_pending(&pending->lane[direction & 1], pending, sk, traffic);
	if (owner->released)
		close_pending(pending, owner);
	return 0;
}

static __always_inline int count(struct __sk_buff *skb, enum direction direction)
{
	struct pending *pending = NULL;
	struct bpf_sock *sk = skb->sk;

	if (sk)
		pending = bpf_sk_storage_get(&pendings, sk, 0, 0);
	if (pending)
		add_pending(&pending->lane[direction], pending, sk, skb_traffic(skb));
	else
		count_aside(skb, direction);
	return 1; /* let it pass */
}

#endif
