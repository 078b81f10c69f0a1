/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Every map of the object. The loader sets the capacity of `tasks` before it loads. */
#ifndef NETATOP_MAPS_H
#define NETATOP_MAPS_H

#include "fingerprint.h"
#include "kernel.h"
#include "netatop.h"

/* The object's only read-only variable: .rodata is this struct. */
const volatile struct settings settings = {.fingerprint = NETATOP_FINGERPRINT};

/*
 * One direction of a socket's packets since the last settle, in one word, so that a packet costs one
 * atomic addition and a settle takes packets and bytes together:
 *
 *	bits 0..25	packets
 *	bits 26..58	bytes
 *	bits 59..62	the class of their remote address; 0 if classes are not counted
 *	bit  63		at once: nobody will settle these later, the socket is released or closed
 *
 * Whoever adds learns the word before: past half of either range, or with bit 63 set, it settles.
 * In a cache line of its own: the two directions are mostly written by two processors.
 */
struct lane {
	__u64 word;
	__u64 settled_packets;
	__u64 settled_bytes;
	/* What TCP had said at the last settle: bytes received, or acknowledged; segments sent again. */
	__u64 payload;
	__u64 retransmits;
	__u64 last;   /* packet, as it was added */
	__u64 remote; /* of the last IPv4 packet, see remote.bpf.h */
	__u64 local;  /* half of an address, see local.bpf.h */
};

#define LANE_BYTES_SHIFT 26
#define LANE_REMOTE_SHIFT 59
#define LANE_PACKETS ((1ULL << LANE_BYTES_SHIFT) - 1)
#define LANE_REMOTE ((__u64)(REMOTES - 1) << LANE_REMOTE_SHIFT)
#define LANE_AMOUNT ((1ULL << LANE_REMOTE_SHIFT) - 1) /* packets and bytes */
#define LANE_AT_ONCE (1ULL << 63)
#define LANE_HURRY (LANE_AT_ONCE | 1ULL << (LANE_REMOTE_SHIFT - 1) | 1ULL << (LANE_BYTES_SHIFT - 1))

static __always_inline __u64 lane_word(struct traffic traffic, __u64 remote)
{
	return remote << LANE_REMOTE_SHIFT | traffic.bytes << LANE_BYTES_SHIFT | traffic.packets;
}

static __always_inline __u64 lane_packets(__u64 word)
{
	return word & LANE_PACKETS;
}

static __always_inline __u64 lane_bytes(__u64 word)
{
	return (word & LANE_AMOUNT) >> LANE_BYTES_SHIFT;
}

static __always_inline __u32 lane_remote(__u64 word)
{
	return (word & LANE_REMOTE) >> LANE_REMOTE_SHIFT;
}

/* Who uses a socket, by identity; the first two in the order of enum direction. */
enum user { USER_RECEIVES, USER_TRANSMITS, USER_CREATOR, USERS };

/*
 * What a socket keeps: its users, read by every send and receive and written when they change, and
 * its packets. All that a settle needs is in here: the iterator that settles all sockets holds no
 * reference on them, so it must not look into one.
 */
struct meter {
	__u64 user[USERS];
	__u64 cookie;	/* of the socket */
	__u16 protocol; /* enum protocol */
	__u16 raw;	/* packets are of any protocol: none waits here, see hurry() */
	__u16 tcp;	/* the socket is a struct tcp_sock */
	__u16 ended;	/* its connection, which is told once though two programs hear of it */
	__u64 walk;	/* the last that has visited it */
	/* The storage's own header takes 8 bytes of the first cache line, so this is its last word. */
	__u64 holder; /* identity of the last process that has it among its sockets */
	struct lane lane[DIRECTIONS];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct meter);
} meters SEC(".maps");

/* A socket that listens, and by BPF_F_CLONE every connection that it accepts: who listens. */
struct listener {
	__u64 owner; /* identity of a process */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct listener);
} listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct task);
} tasks SEC(".maps");

/* A new record: too large for the stack. In a section of its own: .rodata is the settings. */
const struct task blank_task SEC(".rodata.blank") = {};

/* Class by prefix; the loader makes room for all of them and fills it in. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct remote_prefix);
	__type(value, __u32);
} remote_prefixes SEC(".maps");

/*
 * What a processor has found there lately, so that it need not search again: prefixes stay as they are
 * as long as the object does. See remote.bpf.h.
 */
struct found_remote {
	__u64 state;
	__u64 address[2];
};

#define FOUND_REMOTES_BITS 8

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1 << FOUND_REMOTES_BITS);
	__type(key, __u32);
	__type(value, struct found_remote);
} found_remotes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASONS);
	__type(key, __u32);
	__type(value, struct counters);
} unidentified SEC(".maps");

/* What the program `adopt` has done; the loader gives it room when there is something to adopt. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, __u8);
} adopted SEC(".maps");

/* The stray that `drop_stray` has counted last: an address, only compared. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} last_stray SEC(".maps");

/*
 * Where netatop's options are answered (compat.bpf.h): the living among the records by what is asked for.
 * The key is the low part of the identity, IDENTITY_THREAD included. The loader makes room for all.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} living SEC(".maps");

/* The processes that have ended last, a ring; the loader gives it its room. */
#define EXITS (1U << 14)

struct exited {
	__u64 number; /* from 1: which in the ring's life it is; written last */
	__u64 identity;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, EXITS);
	__type(key, __u32);
	__type(value, struct exited);
} exits SEC(".maps");

struct exit_list {
	__u64 written;
	__u64 read;	/* by all readers together */
	__u64 released; /* to be read whatever their age */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct exit_list);
} exit_lists SEC(".maps");

/* Nanoseconds since the epoch when the host was started; user space keeps it right. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} boot_time SEC(".maps");

/* Nonzero: the walk writes a record of every socket, whatever the settings say. User space sets it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} listing SEC(".maps");

/* Scratch of the walk over all sockets, of which one runs at a time. */
struct walk {
	struct socket_summary summary;
	__u64 list; /* which sockets have a record, see walk.bpf.h */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct walk);
} walks SEC(".maps");

#endif
