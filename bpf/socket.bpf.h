/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Where: sockets, their users, and the packets that wait in them until they are settled.
 *
 * `void *sk`: what the verifier takes for a socket differs from one kind of program to the next.
 */
#ifndef NETATOP_SOCKET_H
#define NETATOP_SOCKET_H

#include "account.bpf.h"
#include "packet.bpf.h"
#include "task.bpf.h"

/* Until a direction has its own user, it goes with the other's, and before that with the creator. */
static __always_inline __u64 user_of(struct meter *meter, __u32 direction)
{
	__u64 user = meter->user[direction & 1];

	if (!user)
		user = meter->user[!direction];
	if (!user)
		user = meter->user[USER_CREATOR];
	return user;
}

/* Take what waits and give it to its user: exact against packets and other settles. */
static __always_inline void settle_lane(struct meter *meter, __u32 direction)
{
	struct lane *lane = &meter->lane[direction & 1];
	__u64 word = __sync_fetch_and_and(&lane->word, LANE_AT_ONCE) & ~LANE_AT_ONCE;
	__u64 packets = word & LANE_PACKETS, bytes = word >> LANE_BYTES_SHIFT;

	if (!packets)
		return;
	__sync_fetch_and_add(&lane->settled_packets, packets);
	__sync_fetch_and_add(&lane->settled_bytes, bytes);
	account(user_of(meter, direction), meter->protocol, direction, packets, bytes);
}

static __always_inline void settle(struct meter *meter)
{
	if (meter->raw)
		return;
	settle_lane(meter, DIRECTION_RECEIVE);
	settle_lane(meter, DIRECTION_TRANSMIT);
}

/* What of a socket its meter must know. */
struct kind {
	__u16 type;
	__u16 protocol;
};

/*
 * NULL if the kernel refuses the storage. Two processors that open it at once get the same one.
 * An accepted connection has no file before it is accepted: where the walk goes by files, its packets
 * are settled at once until somebody uses it.
 */
static __always_inline struct meter *open_meter(void *sk, struct kind kind, __u64 cookie,
						__u64 creator, bool accepted)
{
	struct meter fresh = {.cookie = cookie, .protocol = protocol_of(kind.protocol)};

	fresh.user[USER_CREATOR] = creator;
	fresh.raw = kind.type == SOCK_RAW;
	if (fresh.raw || (accepted && settings.walk_files)) {
		fresh.lane[DIRECTION_RECEIVE].word = LANE_AT_ONCE;
		fresh.lane[DIRECTION_TRANSMIT].word = LANE_AT_ONCE;
	}
	return bpf_sk_storage_get(&meters, sk, &fresh, BPF_SK_STORAGE_GET_F_CREATE);
}

static __always_inline __u64 listed_cookie(void *sk)
{
	return settings.list_sockets ? bpf_get_socket_cookie(sk) : 0;
}

/* The meter of a connection that was accepted and has seen neither packet nor use yet. */
static __always_inline struct meter *open_accepted(void *sk, struct kind kind)
{
	struct listener *listener = bpf_sk_storage_get(&listeners, sk, 0, 0);

	return listener ? open_meter(sk, kind, listed_cookie(sk), listener->owner, true) : NULL;
}

/* The socket is open, or open again: its packets may wait. */
static __always_inline void let_wait(struct meter *meter)
{
	if (meter->raw || !(meter->lane[DIRECTION_RECEIVE].word & LANE_AT_ONCE))
		return;
	__sync_fetch_and_and(&meter->lane[DIRECTION_RECEIVE].word, ~LANE_AT_ONCE);
	__sync_fetch_and_and(&meter->lane[DIRECTION_TRANSMIT].word, ~LANE_AT_ONCE);
}

/* The short way of claim(): nothing changes, or nothing that matters to who gets the packets. */
static __always_inline bool is_user(void *sk, struct task_struct *task, enum user how)
{
	struct meter *meter = bpf_sk_storage_get(&meters, sk, 0, 0);
	__u64 identity;

	if (!meter)
		return false;
	identity = owner_identity(task);
	if (meter->user[how] == identity)
		return true;
	if (user_of(meter, how) != identity)
		return false;
	let_wait(meter);
	meter->user[how] = identity;
	return true;
}

/*
 * From now on the task uses the socket in this way. What waits was the former user's; what arrives
 * between the two steps is the new one's. Kernel threads own nothing: what they do with a process's
 * socket they do for it, and their own sockets are the kernel's. A task outside the counted cgroup
 * owns only what it was handed from inside.
 */
static __always_inline void claim(void *sk, struct kind kind, struct task_struct *task,
				  enum user how)
{
	struct meter *meter;
	__u64 identity;

	if (task->flags & PF_KTHREAD)
		return;
	meter = bpf_sk_storage_get(&meters, sk, 0, 0);
	if (!meter)
		meter = open_accepted(sk, kind);
	if (!meter && !in_scope(task))
		return;
	identity = enter_task(task);
	if (!meter)
		meter = open_meter(sk, kind, listed_cookie(sk), identity, false);
	if (!meter) {
		lose(LOSS_SOCKET_MEMORY);
		return;
	}
	settle(meter);
	let_wait(meter);
	if (how == USER_CREATOR)
		meter->user[USER_RECEIVES] = meter->user[USER_TRANSMITS] = IDENTITY_NOBODY;
	meter->user[how] = identity;
}

static __always_inline struct kind kind_of(struct sock *sk)
{
	struct kind kind = {.type = sk->sk_type, .protocol = sk->sk_protocol};

	return kind;
}

static __always_inline void use_socket(struct sock *sk, enum user how)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (!is_user(sk, task, how))
		claim(sk, kind_of(sk), task, how);
}

/*
 * The last settle of a socket. A packet that is under way on another processor was added before the
 * mark and is settled here, or finds the mark and settles itself.
 */
static __always_inline void settle_for_good(void *sk, struct kind kind)
{
	struct meter *meter = bpf_sk_storage_get(&meters, sk, 0, 0);

	if (!meter)
		meter = open_accepted(sk, kind);
	if (!meter)
		return;
	__sync_fetch_and_or(&meter->lane[DIRECTION_RECEIVE].word, LANE_AT_ONCE);
	__sync_fetch_and_or(&meter->lane[DIRECTION_TRANSMIT].word, LANE_AT_ONCE);
	settle(meter);
}

/* The connections that it accepts will be its process's, until somebody uses them. */
static __always_inline void bequeath(struct sock *sk, struct task_struct *task)
{
	struct listener fresh = {.owner = process_identity(task)}, *listener;

	if (!bpf_sk_storage_get(&meters, sk, 0, 0))
		return; /* nobody's */
	listener = bpf_sk_storage_get(&listeners, sk, &fresh, BPF_SK_STORAGE_GET_F_CREATE);
	if (listener)
		listener->owner = fresh.owner;
	else
		lose(LOSS_SOCKET_MEMORY);
}

static __always_inline void change_state(struct sock *sk, int old_state, int new_state)
{
	struct task_struct *task;

	if (new_state == TCP_CLOSE) {
		settle_for_good(sk, kind_of(sk));
	} else if (old_state == TCP_CLOSE &&
		   (new_state == TCP_SYN_SENT || new_state == TCP_LISTEN)) {
		task = bpf_get_current_task_btf();
		claim(sk, kind_of(sk), task, USER_CREATOR);
		if (new_state == TCP_LISTEN)
			bequeath(sk, task);
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

/* What is added to a word that is marked, or half full. */
static __noinline int hurry(struct __sk_buff *skb, struct meter *meter, __u32 direction, __u64 word)
{
	struct lane *lane;

	if (!meter)
		return 0; /* for the verifier */
	if (!meter->raw) {
		settle(meter);
		return 0;
	}
	/* Taken back at once, and nobody settles a raw socket: the word is as it was. */
	lane = &meter->lane[direction & 1];
	__sync_fetch_and_add(&lane->word, -word);
	account(user_of(meter, direction), skb_protocol(skb), direction, word & LANE_PACKETS,
		word >> LANE_BYTES_SHIFT);
	return 0;
}

static __always_inline void add_packet(struct __sk_buff *skb, struct meter *meter, __u32 direction,
				       struct traffic traffic)
{
	__u64 word = traffic.bytes << LANE_BYTES_SHIFT | traffic.packets;

	if (__sync_fetch_and_add(&meter->lane[direction & 1].word, word) & LANE_HURRY)
		hurry(skb, meter, direction, word);
}

/* A packet of a socket without a meter: the first of an accepted connection, or nobody's. */
static __noinline int count_aside(struct __sk_buff *skb, __u32 direction)
{
	struct traffic traffic = skb_traffic(skb);
	struct bpf_sock *sk = skb->sk;
	struct listener *listener;
	struct meter *meter;
	struct kind kind;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0; /* for the verifier: these programs run for full sockets only */
	listener = bpf_sk_storage_get(&listeners, sk, 0, 0);
	if (!listener) {
		account_unidentified(is_kernel_socket(sk) ? REASON_KERNEL : REASON_NO_OWNER,
				     skb_protocol(skb), direction, traffic);
		return 0;
	}
	kind.type = sk->type;
	kind.protocol = sk->protocol;
	meter = open_meter(sk, kind, listed_cookie(skb), listener->owner, true);
	if (meter)
		add_packet(skb, meter, direction, traffic);
	else
		account(listener->owner, protocol_of(kind.protocol), direction, traffic.packets,
			traffic.bytes);
	return 0;
}

static __always_inline int count(struct __sk_buff *skb, enum direction direction)
{
	struct meter *meter = NULL;
	struct bpf_sock *sk = skb->sk;

	if (sk)
		meter = bpf_sk_storage_get(&meters, sk, 0, 0);
	if (meter)
		add_packet(skb, meter, direction, skb_traffic(skb));
	else
		count_aside(skb, direction);
	return 1; /* let it pass */
}

#endif
