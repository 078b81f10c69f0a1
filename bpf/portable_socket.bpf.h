/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Where: sockets by their cookie, their users, and the packets that wait for one.
 *
 * A packet of a socket whose user is known is his at once. What waits is moved by one at a time: whoever
 * can insert the cookie into `moves`. He takes away what he has read and no more, so that what is added
 * meanwhile waits on; who comes second leaves it to the first, or to the next settle.
 */
#ifndef NETATOP_PORTABLE_SOCKET_H
#define NETATOP_PORTABLE_SOCKET_H

#include "address.bpf.h"
#include "packet.bpf.h"
#include "portable_task.bpf.h"

#define WORD_PACKETS ((1ULL << METER_BYTES_SHIFT) - 1)
/* Half full: it is moved at once. */
#define WORD_HURRY (1ULL << 63 | 1ULL << (METER_BYTES_SHIFT - 1))

static __always_inline __u64 word_of(struct traffic traffic)
{
	return traffic.bytes << METER_BYTES_SHIFT | traffic.packets;
}

static __always_inline struct traffic word_traffic(__u64 word)
{
	struct traffic traffic = {word & WORD_PACKETS, word >> METER_BYTES_SHIFT};

	return traffic;
}

static __always_inline __u64 waiting(struct socket_meter *meter, __u32 direction)
{
	return *(volatile __u64 *)&meter->word[direction & 1];
}

static __always_inline struct socket_meter *find_meter(__u64 cookie)
{
	return bpf_map_lookup_elem(MAP(meters), &cookie);
}

/* NULL: there is no room. Of two processors that open it at once both get the same one. */
static __always_inline struct socket_meter *open_meter(__u64 cookie)
{
	struct socket_meter fresh = {.cookie = cookie}, *meter = find_meter(cookie);

	if (meter || !cookie)
		return meter;
	bpf_map_update_elem(MAP(meters), &cookie, &fresh, BPF_NOEXIST);
	meter = find_meter(cookie);
	if (!meter)
		lose(LOSS_SOCKET_MEMORY);
	return meter;
}

/* Until a direction has its own user, it goes with the other's, and before that with the creator. */
static __always_inline __u64 user_of(struct socket_meter *meter, __u32 direction)
{
	__u64 user = meter->user[direction & 1];

	if (!user)
		user = meter->user[!direction];
	if (!user)
		user = meter->user[USER_CREATOR];
	return user;
}

static __always_inline bool has_user(struct socket_meter *meter)
{
	return meter && user_of(meter, DIRECTION_RECEIVE);
}

static __always_inline void give(struct socket_meter *meter, __u64 identity, __u32 protocol,
				 __u32 direction, struct traffic traffic, __u32 remote)
{
	add(&meter->carried[direction & 1], traffic);
	account(identity, protocol, direction, traffic, remote);
}

static __always_inline bool begin_move(__u64 cookie)
{
	__u64 one = 1;

	return !bpf_map_update_elem(MAP(moves), &cookie, &one, BPF_NOEXIST);
}

static __always_inline void end_move(__u64 cookie)
{
	bpf_map_delete_elem(MAP(moves), &cookie);
}

static __always_inline void move_word(struct socket_meter *meter, __u32 direction)
{
	__u64 word = waiting(meter, direction);

	if (!word)
		return;
	__sync_fetch_and_add(&meter->word[direction & 1], -word);
	give(meter, user_of(meter, direction), meter->protocol, direction, word_traffic(word),
	     meter->remote[direction & 1]);
}

/* What waits goes to its user; if there is none, to nobody. */
static __always_inline void move(struct socket_meter *meter)
{
	__u64 cookie = meter->cookie;

	if (!waiting(meter, DIRECTION_RECEIVE) && !waiting(meter, DIRECTION_TRANSMIT))
		return;
	if (!begin_move(cookie))
		return;
	move_word(meter, DIRECTION_RECEIVE);
	move_word(meter, DIRECTION_TRANSMIT);
	end_move(cookie);
}

/* The socket is now among those that the process has used. */
static __always_inline void hold(struct socket_meter *meter, __u64 process)
{
	struct task *record;

	if (meter->holder == process)
		return;
	meter->holder = process;
	record = find_task(process);
	if (record)
		__sync_fetch_and_add(&record->sockets, 1);
}

/* The short way of claim(): nothing changes, or nothing that matters to who gets the packets. */
static __always_inline bool is_user(struct socket_meter *meter, __u64 task, enum socket_user how)
{
	__u64 identity = owner_identity(task);

	if (meter->user[how] == identity)
		return true;
	if (user_of(meter, how) != identity || meter->holder != process_identity(task))
		return false;
	meter->user[how] = identity;
	return true;
}

/* It may come to own a socket that is nobody's. */
static __always_inline bool owns(__u64 task)
{
	return !(read_task_flags(task) & (PF_KTHREAD | PF_EXITING)) && in_scope(task);
}

/*
 * From now on the task uses the socket in this way. What waits was the former user's, or the new one's if
 * there was none. Kernel threads own nothing. A task outside the counted cgroup owns only what it was
 * handed from inside. One that is ending opens nothing.
 */
static __always_inline struct socket_meter *claim(__u64 cookie, __u64 task, enum socket_user how)
{
	struct socket_meter *meter;
	__u64 process, identity;

	if (!cookie || read_task_flags(task) & (PF_KTHREAD | PF_EXITING))
		return NULL;
	meter = find_meter(cookie);
	if (!has_user(meter) && !in_scope(task))
		return NULL;
	process = process_identity(task);
	identity = enter_task(task, process);
	meter = open_meter(cookie);
	if (!meter)
		return NULL;
	if (has_user(meter))
		move(meter);
	meter->ended_time_ns = 0;
	hold(meter, process);
	if (how == USER_CREATOR)
		meter->user[USER_RECEIVES] = meter->user[USER_TRANSMITS] = IDENTITY_NOBODY;
	meter->user[how] = identity;
	move(meter);
	return meter;
}

static __always_inline bool is_inet(__u64 sk)
{
	__u16 family = read_sock_family(sk);

	return family == AF_INET || family == AF_INET6;
}

static __always_inline bool is_packet(__u64 sk)
{
	return read_sock_family(sk) == AF_PACKET;
}

/* No process has a descriptor of it: the kernel's own, whoever makes it use it. */
static __always_inline bool is_of_kernel(__u64 sk)
{
	__u64 socket = read_sock_socket(sk);

	return !socket || !read_socket_file(socket);
}

static __always_inline void use_socket(__u64 sk, enum socket_user how)
{
	__u64 cookie = read_sock_cookie(sk), task = bpf_get_current_task();
	struct socket_meter *meter = find_meter(cookie);

	if (meter && is_user(meter, task, how))
		return;
	if (!has_user(meter) && is_of_kernel(sk))
		return;
	claim(cookie, task, how);
}

/* What a packet of these protocols holds beside what the call has sent. */
static __always_inline bool is_from_call(struct socket_meter *meter, struct traffic last,
					 __u32 sent)
{
	__u64 headers = last.bytes - sent;
	__u32 transport = meter->protocol == PROTOCOL_UDP ? UDP_HEADER : 0;

	return last.packets && (headers == last.packets * (IPV4_HEADER + transport) ||
				headers == last.packets * (IPV6_HEADER + transport));
}

/*
 * The kernel tells of a datagram's sender when it has left. If it still waits, it goes to the one who has
 * sent it, before all others go to the former user: as in socket.bpf.h.
 */
static __always_inline void take_last(struct socket_meter *meter, __u64 identity, __u32 sent)
{
	__u64 cookie = meter->cookie, last = meter->last, word;
	struct traffic before, traffic = word_traffic(last);

	if (!is_from_call(meter, traffic, sent) || !begin_move(cookie))
		return;
	word = waiting(meter, DIRECTION_TRANSMIT);
	before = word_traffic(word);
	if (before.packets >= traffic.packets && before.bytes >= traffic.bytes) {
		__sync_fetch_and_add(&meter->word[DIRECTION_TRANSMIT], -last);
		meter->last = 0;
		give(meter, identity, meter->protocol, DIRECTION_TRANSMIT, traffic,
		     meter->remote[DIRECTION_TRANSMIT]);
	}
	end_move(cookie);
}

/* The call has added to a datagram, and another one will send it (MSG_MORE, UDP_CORK). */
static __always_inline bool is_being_filled(struct socket_meter *meter, __u64 sk)
{
	return meter->protocol == PROTOCOL_UDP && !meter->raw && read_udp_pending(sk);
}

/* A send has ended. TCP's sender is known already, where the kernel has a hook for that. */
static __always_inline void end_send(__u64 sk, int sent)
{
	__u64 cookie = read_sock_cookie(sk), task = bpf_get_current_task();
	struct socket_meter *meter = find_meter(cookie);

	if (meter && meter->tcp && SETTING(know_tcp_sender))
		return;
	if (meter && is_user(meter, task, USER_TRANSMITS))
		return;
	if (!has_user(meter) && is_of_kernel(sk))
		return;
	if (meter && meter->known && !meter->tcp && !is_being_filled(meter, sk) &&
	    !(read_task_flags(task) & PF_KTHREAD))
		take_last(meter, enter_task(task, process_identity(task)), sent);
	claim(cookie, task, USER_TRANSMITS);
}

/* AF_PACKET knows no IP: what the call returned, as one packet, for the task that called. */
static __always_inline void count_packet_socket(enum direction direction, int result)
{
	__u64 task = bpf_get_current_task();
	struct traffic traffic = {1, result};

	if (read_task_flags(task) & PF_KTHREAD || !in_scope(task))
		return;
	account(enter_task(task, process_identity(task)), PROTOCOL_OTHER, direction, traffic,
		REMOTE_NONE);
}

/* Where a TCP socket listens, or was accepted. `any`: whatever its address is. */
static __always_inline struct listening place_of(__u64 sk, bool any)
{
	struct listening place = {};

	place.network_namespace = read_net_inode(read_sock_net(sk));
	place.port = read_sock_port(sk);
	place.family = read_sock_family(sk);
	if (any)
		return place;
	if (place.family == AF_INET)
		*(__u32 *)place.address = read_sock_address(sk);
	else
		bpf_probe_read_kernel(place.address, sizeof(place.address),
				      place_sock_address_six(sk));
	return place;
}

/* The connections that it accepts will be its process's, until somebody uses them. */
static __always_inline void bequeath(__u64 sk, __u64 task)
{
	struct listener_of listener = {process_identity(task), sk};
	struct listening place = place_of(sk, false);

	if (bpf_map_update_elem(MAP(listeners), &place, &listener, BPF_ANY))
		lose(LOSS_SOCKET_MEMORY);
}

static __always_inline void stop_listening(__u64 sk)
{
	struct listening place = place_of(sk, false);
	struct listener_of *listener = bpf_map_lookup_elem(MAP(listeners), &place);

	if (listener && listener->sk == sk)
		bpf_map_delete_elem(MAP(listeners), &place);
}

/* A connection was made that somebody will accept. */
static __always_inline void inherit(__u64 sk, __u64 cookie)
{
	struct listening place = place_of(sk, false);
	struct listener_of *listener;
	struct socket_meter *meter;

	listener = bpf_map_lookup_elem(MAP(listeners), &place);
	if (!listener) {
		__builtin_memset(place.address, 0, sizeof(place.address));
		listener = bpf_map_lookup_elem(MAP(listeners), &place);
	}
	if (!listener)
		return;
	meter = open_meter(cookie);
	if (meter && !has_user(meter))
		meter->user[USER_CREATOR] = listener->owner;
	if (meter)
		meter->network_namespace = place.network_namespace;
}

/* Nothing keeps it but packets that are under way. */
static __always_inline void end_socket(__u64 cookie)
{
	struct socket_meter *meter = find_meter(cookie);

	if (!meter)
		return;
	move(meter);
	meter->ended_time_ns = since_boot();
}

/* A call of a process has begun a connection, or begun to listen. */
static __always_inline void begin(__u64 sk, __u64 cookie, bool listens)
{
	__u64 task = bpf_get_current_task();
	struct socket_meter *meter = claim(cookie, task, USER_CREATOR);

	if (meter)
		meter->network_namespace = read_net_inode(read_sock_net(sk));
	/* MPTCP listens by a socket of its own, that has no cookie yet. */
	if (listens && (meter || (!cookie && owns(task))))
		bequeath(sk, task);
}

static __always_inline void change_state(__u64 sk, int old_state, int new_state)
{
	__u64 cookie = read_sock_cookie(sk);

	if (!is_inet(sk))
		return;
	if (new_state == TCP_CLOSE) {
		if (old_state == TCP_LISTEN)
			stop_listening(sk);
		end_socket(cookie);
	} else if (old_state == TCP_CLOSE &&
		   (new_state == TCP_SYN_SENT || new_state == TCP_LISTEN)) {
		begin(sk, cookie, new_state == TCP_LISTEN);
	} else if (old_state == TCP_SYN_RECV && new_state == TCP_ESTABLISHED) {
		inherit(sk, cookie);
	}
}

/*
 * The same moments, where a socket without a cookie gets one. A connection that was accepted gets it just
 * before its state changes. Those below MPTCP are begun in the call of the process, too.
 */
static __always_inline void name_socket(struct bpf_sock_ops *context)
{
	__u64 cookie;

	switch (context->op) {
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		bpf_get_socket_cookie(context);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		cookie = bpf_get_socket_cookie(context);
		if (reads_in_packets() && !has_user(find_meter(cookie)))
			claim(cookie, bpf_get_current_task(), USER_CREATOR);
	}
}

/* Packets */

static __always_inline __u32 skb_protocol(struct __sk_buff *skb)
{
	return protocol_of(find_transport(skb, read_skb).protocol);
}

static __always_inline __u32 skb_remote(struct __sk_buff *skb, __u32 direction)
{
	struct remote_prefix whole;
	union address address;
	__u32 *entry;

	if (!SETTING(count_remotes))
		return REMOTE_UNKNOWN;
	address = read_address(skb, remote_side(direction), read_skb);
	whole.bits = 8 * sizeof(whole.address);
	__builtin_memcpy(whole.address, &address, sizeof(whole.address));
	entry = bpf_map_lookup_elem(MAP(remote_prefixes), &whole);
	return entry ? *entry & (REMOTES - 1) : REMOTE_UNKNOWN;
}

/* All that can be read of a socket while it is being created. */
static __always_inline void describe_kind(struct socket_meter *meter, struct bpf_sock *sk)
{
	meter->protocol = protocol_of(sk->protocol);
	meter->raw = sk->type == SOCK_RAW;
	meter->tcp = sk->type == SOCK_STREAM && sk->protocol == IPPROTO_TCP;
	meter->family = sk->family;
	meter->known = 1;
}

static __always_inline void describe(struct socket_meter *meter, struct bpf_sock *sk)
{
	__u32 *local = (__u32 *)meter->local_address, *remote = (__u32 *)meter->remote_address;

	describe_kind(meter, sk);
	meter->local_port = sk->src_port;
	meter->remote_port = bpf_ntohs(sk->dst_port);
	if (sk->family == AF_INET) {
		local[0] = sk->src_ip4;
		remote[0] = sk->dst_ip4;
	} else {
		local[0] = sk->src_ip6[0];
		local[1] = sk->src_ip6[1];
		local[2] = sk->src_ip6[2];
		local[3] = sk->src_ip6[3];
		remote[0] = sk->dst_ip6[0];
		remote[1] = sk->dst_ip6[1];
		remote[2] = sk->dst_ip6[2];
		remote[3] = sk->dst_ip6[3];
	}
}

/*
 * Datagrams wait for the end of the call that sends them, where only then the kernel tells whose they
 * are; and all wait that are nobody's.
 */
static __always_inline bool waits(struct socket_meter *meter, __u32 direction, __u64 user)
{
	if (meter->raw)
		return false;
	if (SETTING(know_sender) && direction == DIRECTION_TRANSMIT && !meter->tcp)
		return true;
	return !user;
}

static __always_inline void let_wait(struct socket_meter *meter, __u32 direction,
				     struct traffic traffic, __u32 remote)
{
	__u64 word = word_of(traffic);

	if (SETTING(count_remotes) && meter->remote[direction & 1] != remote) {
		if (has_user(meter))
			move(meter); /* what waits is of another class */
		if (!waiting(meter, direction))
			meter->remote[direction & 1] = remote;
	}
	__sync_fetch_and_add(&meter->word[direction & 1], word);
	if (direction == DIRECTION_TRANSMIT)
		meter->last = word;
	if (!has_user(meter))
		meter->ended_time_ns = 0;
	if (waiting(meter, direction) & WORD_HURRY)
		move(meter);
}

/* The verifier permits no arithmetic with a socket's address: it is copied where it takes it for a number. */
static __always_inline bool is_kernels(struct bpf_sock *sk)
{
	__u64 address = 0;

	if (!reads_in_packets())
		return false;
	bpf_probe_read_kernel(&address, sizeof(address), &sk);
	return is_kern_sock(address);
}

static __always_inline int count(struct __sk_buff *skb, enum direction direction)
{
	struct traffic traffic = skb_traffic(skb);
	struct bpf_sock *sk = skb->sk;
	struct socket_meter *meter;
	__u32 remote, protocol;
	__u64 user;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1; /* these programs run for no other */
	meter = open_meter(bpf_get_socket_cookie(skb));
	if (!meter) {
		account_unidentified(REASON_OVERFLOW, skb_protocol(skb), direction, traffic);
		return 1;
	}
	if (!meter->known || meter->local_port != sk->src_port ||
	    meter->remote_port != bpf_ntohs(sk->dst_port))
		describe(meter, sk);
	user = user_of(meter, direction);
	protocol = meter->raw ? skb_protocol(skb) : meter->protocol;
	if (!user && is_kernels(sk)) {
		account_unidentified(REASON_KERNEL, protocol, direction, traffic);
		return 1;
	}
	remote = skb_remote(skb, direction);
	if (waits(meter, direction, user))
		let_wait(meter, direction, traffic, remote);
	else
		give(meter, user, protocol, direction, traffic, remote);
	return 1; /* let it pass */
}

/* Settling */

#define USERLESS_GRACE_NS (15 * METER_GRACE_NS)

/* A thread that has ended leaves its sockets to its process, before its record goes. */
static __always_inline void forget_thread(struct socket_meter *meter, enum socket_user how)
{
	__u64 identity = meter->user[how];
	struct task *task;

	if (!(identity & IDENTITY_THREAD))
		return;
	task = find_task(identity);
	if (task && task->end_time_ns)
		meter->user[how] = task->process;
}

/* One that nobody has and that has no packets is of no use: if a packet comes, it is opened anew. */
static __always_inline void settle(__u64 cookie)
{
	struct socket_meter *meter = find_meter(cookie);
	__u64 ended, now;

	if (!meter)
		return;
	move(meter);
	if (SETTING(count_threads)) {
		forget_thread(meter, USER_RECEIVES);
		forget_thread(meter, USER_TRANSMITS);
		forget_thread(meter, USER_CREATOR);
	}
	ended = meter->ended_time_ns;
	now = since_boot();
	if (!ended) {
		if (!has_user(meter))
			meter->ended_time_ns = now;
		return;
	}
	if (waiting(meter, DIRECTION_RECEIVE) || waiting(meter, DIRECTION_TRANSMIT))
		return;
	if (now - ended > (has_user(meter) ? METER_GRACE_NS : USERLESS_GRACE_NS))
		bpf_map_delete_elem(MAP(meters), &cookie);
}

#endif
