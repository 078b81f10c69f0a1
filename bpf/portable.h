/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The contract of portable.bpf.c, beside that of netatop.h. */
#ifndef NETATOP_PORTABLE_H
#define NETATOP_PORTABLE_H

#include "netatop.h"

#pragma clang diagnostic push
#pragma clang diagnostic error "-Wpadded"

/* Who uses a socket, by identity; the first two in the order of enum direction. */
enum socket_user { USER_RECEIVES, USER_TRANSMITS, USER_CREATOR, USERS };

/*
 * Value of the table `meters`, keyed by a socket's cookie: its users, and what waits for one.
 *
 * A word holds the packets of one direction that wait, and can only be added to:
 *
 *	bits 0..25	packets
 *	bits 26..63	bytes
 */
struct socket_meter {
	__u64 user[USERS];
	__u64 holder; /* identity of the last process that has it among its sockets */
	__u64 cookie;
	__u64 word[DIRECTIONS];
	__u64 last;			    /* packet that was transmitted, as it was added */
	__u64 ended_time_ns;		    /* since when nothing keeps it; 0: it is open */
	struct traffic carried[DIRECTIONS]; /* what tasks were given, and nobody */
	__u8 local_address[16];		    /* IPv4 in the first four bytes */
	__u8 remote_address[16];
	__u32 network_namespace; /* inode number; 0: not known */
	__u16 local_port;
	__u16 remote_port;
	__u16 family;
	__u16 protocol; /* enum protocol; valid if `known` */
	__u8 known;
	__u8 raw; /* packets are of any protocol: none waits here */
	__u8 tcp;
	__u8 unused;
	__u32 remote[DIRECTIONS]; /* class of what waits */
};

#define METER_BYTES_SHIFT 26

/* Key of the table `listeners`: whoever listens there owns what is accepted until it is used. */
struct listening {
	__u32 network_namespace;
	__u16 port;
	__u16 family;
	__u8 address[16]; /* as in the meter; 0: any */
};

struct listener_of {
	__u64 owner; /* identity of a process */
	__u64 sk;    /* the address of the socket, only compared */
};

/* What is remembered of a call while it runs: value of the table `calls`, keyed by pid_tgid. */
struct call {
	__u64 sk;
	__u64 flags;
};

/* Set by the loader: read-only data with libbpf, macros SETTING_... with bcc. */
struct portable_settings {
	__u32 fingerprint;
	__u32 count_threads; /* 0: owners are processes */
	__u32 cgroup_level;  /* of the cgroup that the programs are attached to */
	__u32 count_remotes;
	__u64 cgroup_id;
	__u32 know_sender; /* of a datagram, when the call has ended only: it waits until then */
	__u32 know_tcp_sender; /* before the segment leaves */
};

/* What the program `settle_meters` is given: a header that it does not read, then cookies; 0: none. */
#define SETTLE_HEADER 16
#define SETTLE_COOKIES 32

/* Without an end an ended socket's meter takes late packets for this long. */
#define METER_GRACE_NS (2ULL * 1000 * 1000 * 1000)

#pragma clang diagnostic pop

#endif
