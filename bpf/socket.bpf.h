/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Where: sockets, their users, and the packets that wait in them until they are settled.
 *
 * `void *sk`: what the verifier takes for a socket differs from one kind of program to the next.
 */
#ifndef NETATOP_SOCKET_H
#define NETATOP_SOCKET_H

#include "account.bpf.h"
#include "local.bpf.h"
#include "packet.bpf.h"
#include "remote.bpf.h"
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

static __always_inline bool has_user(struct meter *meter)
{
	return meter && user_of(meter, DIRECTION_RECEIVE);
}

/* What a word of this lane holds, or would hold. */
static __always_inline void give(struct meter *meter, __u64 identity, __u32 direction, __u64 word)
{
	struct traffic traffic = {lane_packets(word), lane_bytes(word)};
	struct lane *lane = &meter->lane[direction & 1];

	__sync_fetch_and_add(&lane->settled_packets, traffic.packets);
	__sync_fetch_and_add(&lane->settled_bytes, traffic.bytes);
	account(identity, meter->protocol, direction, word);
	give_local(meter, direction, traffic);
}

/* Take what waits and give it to its user: exact against packets and other settles. */
static __always_inline void settle_lane(struct meter *meter, __u32 direction)
{
	struct lane *lane = &meter->lane[direction & 1];
	__u64 word = __sync_fetch_and_and(&lane->word, LANE_AT_ONCE);

	if (lane_packets(word))
		give(meter, user_of(meter, direction), direction, word);
}

static __always_inline void settle(struct meter *meter)
{
	if (meter->raw)
		return;
	settle_lane(meter, DIRECTION_RECEIVE);
	settle_lane(meter, DIRECTION_TRANSMIT);
}

/*
 * Where somebody may ask at any moment (compat.bpf.h) what has a user does not wait. A datagram does,
 * until the call has ended that sends it: only then the kernel tells whose it is, see end_send().
 */
static __always_inline void settle_at_once(struct meter *meter, __u32 direction)
{
	if (!settings.answer_netatop || meter->raw)
		return;
	if (direction == DIRECTION_TRANSMIT && meter->protocol != PROTOCOL_TCP &&
	    settings.know_sender)
		return;
	if (user_of(meter, direction))
		settle_lane(meter, direction);
}

/* Move on to what TCP says now and return the way; two that settle at once share it. */
static __always_inline __u64 advance(__u64 *settled, __u64 now)
{
	for (int i = 0; i < 4; i++) {
		__u64 before = *settled;

		if (now <= before)
			break;
		if (__sync_val_compare_and_swap(settled, before, now) == before)
			return now - before;
	}
	return 0;
}

/* The meter's own socket, and not another one in its memory? See walk.bpf.h. */
static __always_inline bool is_still(struct sock *sk, struct meter *meter)
{
	return (__u64)sk->__sk_common.skc_cookie.counter == meter->cookie;
}

/* A FIN that was received is in TCP's number as a byte (net/ipv4/tcp_input.c, tcp_fin). */
static __always_inline __u64 payload_received(struct tcp_sock *tcp, struct sock *sk)
{
	__u64 received = tcp->bytes_received;

	return received -
	       (received &&
		sk->__sk_common.skc_flags >> bpf_core_enum_value(enum sock_flags, SOCK_DONE) & 1);
}

/* So is a SYN or FIN that was acknowledged. Of data no more can be than was sent. */
static __always_inline __u64 payload_acknowledged(struct tcp_sock *tcp)
{
	__u64 acknowledged = tcp->bytes_acked, sent = tcp->bytes_sent - tcp->bytes_retrans;

	return acknowledged < sent ? acknowledged : sent;
}

/*
 * The same for the layer above: what TCP itself says of the socket (Linux 6.2). `sk` may be of a socket
 * that was freed.
 */
static __always_inline void settle_tcp(struct meter *meter, void *socket)
{
	struct lane *receive = &meter->lane[DIRECTION_RECEIVE];
	struct lane *transmit = &meter->lane[DIRECTION_TRANSMIT];
	__u64 received, acknowledged, retransmits;
	struct tcp_sock *tcp;
	struct sock *sk;

	if (!meter->tcp || !bpf_rdonly_cast)
		return;
	tcp = bpf_rdonly_cast(socket, bpf_core_type_id_kernel(struct tcp_sock));
	sk = bpf_rdonly_cast(socket, bpf_core_type_id_kernel(struct sock));
	received = payload_received(tcp, sk);
	acknowledged = payload_acknowledged(tcp);
	retransmits = tcp->total_retrans;
	if ((received == receive->payload && acknowledged == transmit->payload &&
	     retransmits == transmit->retransmits) ||
	    !is_still(sk, meter))
		return;
	received = advance(&receive->payload, received);
	acknowledged = advance(&transmit->payload, acknowledged);
	retransmits = advance(&transmit->retransmits, retransmits);
	if (received)
		account_tcp(user_of(meter, DIRECTION_RECEIVE), received, 0, 0);
	if (acknowledged || retransmits)
		account_tcp(user_of(meter, DIRECTION_TRANSMIT), 0, acknowledged, retransmits);
}

/* What of a socket its meter must know. */
struct kind {
	__u16 type;
	__u16 protocol;
	bool of_kernel;
};

/*
 * Is it a struct tcp_sock? A raw socket of the same protocol is not, nor are the kernel's own, which it
 * sends RSTs through (net/ipv4/tcp_ipv4.c, ipv4_tcp_sk): beyond them is other memory.
 */
static __always_inline bool is_tcp(struct kind *kind)
{
	return kind->type == SOCK_STREAM && kind->protocol == IPPROTO_TCP;
}

/*
 * NULL if the kernel refuses the storage. Two processors that open it at once get the same one.
 * An accepted connection has no file before it is accepted: where the walk goes by files, its packets
 * are settled at once until somebody uses it.
 */
static __noinline struct meter *open_meter(void *sk, struct kind *kind, __u64 cookie, __u64 creator,
					   bool accepted)
{
	struct meter fresh = {.cookie = cookie, .protocol = protocol_of(kind->protocol)};

	fresh.user[USER_CREATOR] = creator;
	fresh.raw = kind->type == SOCK_RAW;
	fresh.tcp = is_tcp(kind);
	if (fresh.raw || (accepted && settings.walk_files)) {
		fresh.lane[DIRECTION_RECEIVE].word = LANE_AT_ONCE;
		fresh.lane[DIRECTION_TRANSMIT].word = LANE_AT_ONCE;
	}
	return bpf_sk_storage_get(&meters, sk, &fresh, BPF_SK_STORAGE_GET_F_CREATE);
}

/* The meter of a connection that was accepted and has seen neither packet nor use yet. */
static __always_inline struct meter *open_accepted(void *sk, struct kind *kind)
{
	struct listener *listener = bpf_sk_storage_get(&listeners, sk, 0, 0);

	return listener ? open_meter(sk, kind, bpf_get_socket_cookie(sk), listener->owner, true) :
			  NULL;
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
static __always_inline bool is_user(struct meter *meter, struct task_struct *task, enum user how)
{
	__u64 identity = owner_identity(task);

	if (meter->user[how] == identity)
		return true;
	if (user_of(meter, how) != identity || meter->holder != process_identity(task))
		return false;
	let_wait(meter);
	meter->user[how] = identity;
	return true;
}

/* The socket is now among those that the process has used. */
static __always_inline void hold(struct meter *meter, __u64 process)
{
	struct task *record;

	if (meter->holder == process)
		return;
	meter->holder = process;
	record = bpf_map_lookup_elem(&tasks, &process);
	if (record)
		__sync_fetch_and_add(&record->sockets, 1);
}

/*
 * From now on the task uses the socket in this way. What waits was the former user's, or the new one's if
 * there was none; what arrives between the two steps is the new one's. Kernel threads own nothing: what they do with a process's
 * socket they do for it, and the kernel's own sockets are its own, whoever makes it use them. A task
 * outside the counted cgroup owns only what it was handed from inside. One that is ending opens nothing.
 */
static __always_inline struct meter *claim(void *sk, struct kind *kind, struct task_struct *task,
					   enum user how)
{
	struct meter *meter;
	__u64 identity;

	if (task->flags & (PF_KTHREAD | PF_EXITING))
		return NULL;
	meter = bpf_sk_storage_get(&meters, sk, 0, 0);
	if (!meter)
		meter = open_accepted(sk, kind);
	if (!has_user(meter) && (kind->of_kernel || !in_scope(task)))
		return NULL;
	identity = enter_task(task);
	if (meter && !meter->cookie)
		meter->cookie = bpf_get_socket_cookie(sk);
	if (!meter)
		meter = open_meter(sk, kind, bpf_get_socket_cookie(sk), identity, false);
	if (!meter) {
		lose(LOSS_SOCKET_MEMORY);
		return NULL;
	}
	if (has_user(meter))
		settle(meter);
	let_wait(meter);
	hold(meter, process_identity(task));
	if (how == USER_CREATOR)
		meter->user[USER_RECEIVES] = meter->user[USER_TRANSMITS] = IDENTITY_NOBODY;
	meter->user[how] = identity;
	if (settings.answer_netatop)
		settle(meter); /* what has waited for a user */
	return meter;
}

/* One of the TCP connections below an MPTCP socket. */
static __always_inline bool is_subflow(struct sock *sk)
{
	struct tcp_sock *tcp = (struct tcp_sock *)sk;

	if (sk->sk_type != SOCK_STREAM || sk->sk_protocol != IPPROTO_TCP ||
	    !bpf_core_field_exists(tcp->is_mptcp))
		return false;
	if (!bpf_rdonly_cast)
		return BPF_CORE_READ_BITFIELD_PROBED(tcp, is_mptcp);
	tcp = bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct tcp_sock));
	return BPF_CORE_READ_BITFIELD(tcp, is_mptcp);
}

/*
 * The kernel made it, and no process has a descriptor of it. One that has: an MPTCP listener hands out
 * plain connections too, to peers that know no MPTCP.
 */
static __always_inline bool is_of_kernel(struct sock *sk)
{
	return BPF_CORE_READ_BITFIELD(sk, sk_kern_sock) && (is_subflow(sk) || !sk->sk_socket->file);
}

static __always_inline struct kind kind_of(struct sock *sk)
{
	struct kind kind = {.type = sk->sk_type, .protocol = sk->sk_protocol};

	kind.of_kernel = is_of_kernel(sk);
	return kind;
}

static __always_inline void use_socket(struct sock *sk, enum user how)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct meter *meter = bpf_sk_storage_get(&meters, sk, 0, 0);
	struct kind kind;

	if (meter && is_user(meter, task, how))
		return;
	kind = kind_of(sk);
	if (meter)
		settle_tcp(meter, sk);
	claim(sk, &kind, task, how);
}

/* What a packet of these protocols holds beside what the call has sent. */
static __always_inline bool is_from_call(struct meter *meter, __u64 word, __u32 sent)
{
	__u64 packets = lane_packets(word), headers = lane_bytes(word) - sent;
	__u32 transport = meter->protocol == PROTOCOL_UDP ? UDP_HEADER : 0;

	return packets && (headers == packets * (IPV4_HEADER + transport) ||
			   headers == packets * (IPV6_HEADER + transport));
}

/* A word without its last packet. One that holds no packet is of no class. */
static __always_inline __u64 left_of(__u64 word, __u64 last)
{
	__u64 rest = word - (last & LANE_AMOUNT);

	return lane_packets(rest) ? rest : rest & ~LANE_REMOTE;
}

/*
 * The kernel tells of a datagram's sender when it has left. If it still waits, it goes to the one who
 * has sent it, before all others go to the former user. It is the last one: known by its size,
 * because a call may also only fill a buffer (MSG_MORE), and one of the former user's stays his.
 */
static __always_inline void take_last(struct meter *meter, __u64 identity, __u32 sent)
{
	struct lane *lane = &meter->lane[DIRECTION_TRANSMIT];
	__u64 last = lane->last;

	if (!is_from_call(meter, last, sent))
		return;
	for (int i = 0; i < 4; i++) {
		__u64 word = lane->word;

		if (word & LANE_AT_ONCE || lane_remote(word) != lane_remote(last) ||
		    lane_packets(word) < lane_packets(last) || lane_bytes(word) < lane_bytes(last))
			return;
		if (__sync_val_compare_and_swap(&lane->word, word, left_of(word, last)) != word)
			continue;
		lane->last = 0;
		give(meter, identity, DIRECTION_TRANSMIT, last);
		return;
	}
}

/* The call has added to a datagram, and another one will send it (MSG_MORE, UDP_CORK). */
static __always_inline bool is_being_filled(struct sock *sk)
{
	struct udp_sock *udp = (struct udp_sock *)sk;

	if (sk->sk_protocol != IPPROTO_UDP)
		return false;
	if (!bpf_rdonly_cast)
		return BPF_CORE_READ(udp, pending);
	udp = bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct udp_sock));
	return udp->pending;
}

/* A send has ended. TCP's sender is known already, where the kernel has a hook for that. */
static __always_inline void end_send(struct sock *sk, int sent)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct meter *meter;
	struct kind kind;

	if (settings.know_tcp_sender && sk->sk_protocol == IPPROTO_TCP)
		return;
	meter = bpf_sk_storage_get(&meters, sk, 0, 0);
	if (meter && is_user(meter, task, USER_TRANSMITS)) {
		if (settings.answer_netatop)
			settle(meter);
		return;
	}
	kind = kind_of(sk);
	if (meter && meter->protocol != PROTOCOL_TCP && !is_being_filled(sk) &&
	    !(task->flags & PF_KTHREAD) &&
	    user_of(meter, DIRECTION_TRANSMIT) != owner_identity(task))
		take_last(meter, enter_task(task), sent);
	claim(sk, &kind, task, USER_TRANSMITS);
}

/*
 * The last settle of a socket. A packet that is under way on another processor was added before the
 * mark and is settled here, or finds the mark and settles itself.
 */
static __always_inline struct meter *settle_for_good(void *sk, struct kind *kind)
{
	struct meter *meter = bpf_sk_storage_get(&meters, sk, 0, 0);

	if (!meter)
		meter = open_accepted(sk, kind);
	if (!meter)
		return NULL;
	__sync_fetch_and_or(&meter->lane[DIRECTION_RECEIVE].word, LANE_AT_ONCE);
	__sync_fetch_and_or(&meter->lane[DIRECTION_TRANSMIT].word, LANE_AT_ONCE);
	settle(meter);
	return meter;
}

static __always_inline void end_connection(struct sock *sk)
{
	struct kind kind = kind_of(sk);
	struct meter *meter = settle_for_good(sk, &kind);
	struct tcp_sock *tcp;
	__u32 round_trip_us;

	if (!meter || !meter->tcp || !bpf_rdonly_cast)
		return;
	settle_tcp(meter, sk);
	if (meter->ended)
		return;
	meter->ended = 1;
	tcp = bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct tcp_sock));
	round_trip_us = tcp->srtt_us >> 3;
	if (round_trip_us)
		account_round_trip(user_of(meter, DIRECTION_TRANSMIT), round_trip_us);
}

/* A new connection, on a socket that may have had another one before. */
static __always_inline void begin_connection(struct sock *sk, struct task_struct *task)
{
	struct kind kind = kind_of(sk);
	struct meter *meter = claim(sk, &kind, task, USER_CREATOR);

	if (!meter)
		return;
	meter->ended = 0;
	drop_local(meter);
	meter->lane[DIRECTION_RECEIVE].payload = meter->lane[DIRECTION_TRANSMIT].payload =
		meter->lane[DIRECTION_TRANSMIT].retransmits = 0;
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
	struct kind kind;

	if (is_subflow(sk))
		return; /* counted above */
	if (new_state == TCP_CLOSE) {
		end_connection(sk);
	} else if (old_state == TCP_CLOSE &&
		   (new_state == TCP_SYN_SENT || new_state == TCP_LISTEN)) {
		task = bpf_get_current_task_btf();
		begin_connection(sk, task);
		if (new_state == TCP_LISTEN)
			bequeath(sk, task);
	} else if (settings.max_hosts && old_state == TCP_SYN_RECV &&
		   !bpf_sk_storage_get(&meters, sk, 0, 0)) {
		/* A connection, to be counted as one though nothing was sent through it yet. */
		kind = kind_of(sk);
		open_accepted(sk, &kind);
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
	account(user_of(meter, direction), skb_protocol(skb), direction, word);
	return 0;
}

/* The word with a packet of the same class added, or 0: it can't be added to. */
static __always_inline __u64 joined(__u64 before, __u64 packet)
{
	if (!before)
		return packet;
	if (before & LANE_HURRY || (before ^ packet) & LANE_REMOTE)
		return 0;
	return before + (packet & LANE_AMOUNT);
}

#define JOIN_TRIES 8

/*
 * What waits is of another class, or half a word full: it goes to its user, and the packet waits in its
 * place. But while nobody is known, all wait for him, as the class that came first.
 */
static __noinline int add_apart(struct __sk_buff *skb, struct meter *meter, __u32 direction,
				__u64 packet)
{
	struct lane *lane;
	__u64 user;

	if (!meter)
		return 0; /* for the verifier */
	lane = &meter->lane[direction & 1];
	for (int i = 0; i < JOIN_TRIES; i++) {
		__u64 before = lane->word, after = joined(before, packet);

		if (before & LANE_AT_ONCE)
			break;
		user = user_of(meter, direction); /* before the swap: what waits is his */
		if (!after && !user && !(before & LANE_HURRY))
			after = before + (packet & LANE_AMOUNT);
		if (__sync_val_compare_and_swap(&lane->word, before, after ?: packet) != before)
			continue;
		lane->last = packet;
		if (!after)
			give(meter, user, direction, before);
		return 0;
	}
	user = user_of(meter, direction);
	if (meter->raw)
		account(user, skb_protocol(skb), direction, packet);
	else
		give(meter, user, direction, packet);
	return 0;
}

/* A lane's word holds packets of one class. */
static __always_inline void add_packet_of_class(struct __sk_buff *skb, struct meter *meter,
						__u32 direction, struct traffic traffic)
{
	struct lane *lane = &meter->lane[direction & 1];
	__u64 packet = lane_word(traffic, skb_remote(skb, lane, direction));
	__u64 before = lane->word, after = joined(before, packet);

	if (after && __sync_val_compare_and_swap(&lane->word, before, after) == before)
		lane->last = packet;
	else
		add_apart(skb, meter, direction, packet);
}

static __always_inline void add_packet(struct __sk_buff *skb, struct meter *meter, __u32 direction,
				       struct traffic traffic)
{
	__u64 word = lane_word(traffic, REMOTE_UNKNOWN);

	add_to_host(skb, meter, direction);
	if (settings.count_remotes) {
		add_packet_of_class(skb, meter, direction, traffic);
	} else {
		meter->lane[direction & 1].last = word;
		if (__sync_fetch_and_add(&meter->lane[direction & 1].word, word) & LANE_HURRY)
			hurry(skb, meter, direction, word);
	}
	settle_at_once(meter, direction);
}

/* NULL: not a full socket; these programs run for no other. */
static __always_inline struct bpf_sock *full_socket(struct __sk_buff *skb, struct kind *kind)
{
	struct bpf_sock *sk = skb->sk;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (sk) {
		kind->type = sk->type;
		kind->protocol = sk->protocol;
		kind->of_kernel = is_kernel_socket(sk);
	}
	return sk;
}

/* Linux 5.19, with MPTCP */
static __always_inline bool knows_mptcp(void)
{
	return bpf_core_type_exists(struct mptcp_sock) &&
	       bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_skc_to_mptcp_sock);
}

/*
 * A subflow has no meter: its packets are added to that of the MPTCP socket, which the process has.
 * False: it is no subflow. To be called for a struct tcp_sock only: the helper believes the protocol
 * alone (net/mptcp/bpf.c), and follows whatever it finds where another socket has ended.
 */
static __always_inline bool count_subflow(struct __sk_buff *skb, struct bpf_sock *sk,
					  __u32 direction, struct traffic traffic)
{
	struct kind kind = {};
	struct listener *listener;
	struct meter *meter;
	struct sock *above;

	if (!knows_mptcp())
		return false;
	kind.protocol = IPPROTO_MPTCP;
	above = (struct sock *)bpf_skc_to_mptcp_sock(sk);
	if (!above)
		return false;
	meter = bpf_sk_storage_get(&meters, above, 0, 0);
	listener = bpf_sk_storage_get(&listeners, above, 0, 0);
	if (listener && sk->state == TCP_LISTEN)
		/* Plain connections are clones of the subflow that listens. */
		bpf_sk_storage_get(&listeners, sk, listener, BPF_SK_STORAGE_GET_F_CREATE);
	if (!meter && listener)
		meter = open_meter(above, &kind, 0, listener->owner, true);
	if (meter) {
		add_packet(skb, meter, direction, traffic);
		return true;
	}
	account_unidentified(REASON_NO_OWNER, PROTOCOL_TCP, direction, traffic);
	count_local(skb, direction);
	return true;
}

/*
 * A packet of a socket without a meter: the first of an accepted connection, or of a socket that no process
 * is known of. The latter waits too: who uses the socket may be in the middle of the call.
 */
static __noinline int count_aside(struct __sk_buff *skb, __u32 direction)
{
	struct traffic traffic = skb_traffic(skb);
	struct listener *listener;
	struct kind kind = {};
	struct bpf_sock *sk = full_socket(skb, &kind);
	struct meter *meter;
	__u64 owner;

	if (!sk)
		return 0; /* for the verifier */
	if (is_tcp(&kind) && count_subflow(skb, sk, direction, traffic))
		return 0;
	listener = bpf_sk_storage_get(&listeners, sk, 0, 0);
	if (!listener && kind.of_kernel) {
		account_unidentified(REASON_KERNEL, skb_protocol(skb), direction, traffic);
		count_local(skb, direction);
		return 0;
	}
	owner = listener ? listener->owner : IDENTITY_NOBODY;
	meter = open_meter(sk, &kind, bpf_get_socket_cookie(skb), owner, true);
	if (meter) {
		add_packet(skb, meter, direction, traffic);
		return 0;
	}
	count_local(skb, direction);
	account(owner, skb_protocol(skb), direction,
		lane_word(traffic,
			  settings.count_remotes ? read_remote(skb, direction) : REMOTE_UNKNOWN));
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
