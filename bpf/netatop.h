/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The contract: every struct, enumerator and limit that crosses from the kernel to user space.
 *
 * Fixed-width types, padding written out, no kernel types. `make layouts` compiles this file and
 * writes exporter/kernel/layouts.py and fingerprint.h from what the compiler made of it; the loader
 * refuses an object whose fingerprint is not that of its own layouts.
 */
#ifndef NETATOP_H
#define NETATOP_H

#include <linux/types.h>

#define COMMAND_LENGTH 16

enum protocol { PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_ICMP, PROTOCOL_OTHER, PROTOCOLS };

enum direction { DIRECTION_RECEIVE, DIRECTION_TRANSMIT, DIRECTIONS };

/* Why a packet belongs to no task (label `reason` of the unidentified families). */
enum reason { REASON_NO_SOCKET, REASON_KERNEL, REASON_NO_OWNER, REASON_OVERFLOW, REASONS };

/* What could not be stored (labels `object` and `reason` of the lost family). */
enum loss {
	LOSS_TASK_FULL,		/* the task table is full */
	LOSS_TASK_MEMORY,	/* the kernel had no memory for a task */
	LOSS_SOCKET_MEMORY,	/* the kernel refused a socket its storage */
	LOSS_PROGRAM_RECURSION, /* a program was skipped: the kernel counts them; here those of
				   earlier versions */
	LOSS_HOST_FULL,		/* a packet's address found no room in the table of addresses */
	LOSS_HOST_MEMORY,	/* the kernel had no memory for it */
	LOSS_CONNECTION_FULL,
	LOSS_CONNECTION_MEMORY,
	LOSSES
};

#pragma clang diagnostic push
#pragma clang diagnostic error "-Wpadded"

struct traffic {
	__u64 packets;
	__u64 bytes;
};

struct counters {
	struct traffic of[PROTOCOLS][DIRECTIONS];
};

/*
 * Classes of remote addresses: the source of what is received, the destination of what is transmitted.
 * User space names them and gives prefixes; the longest that matches decides.
 */
#define REMOTES 16
#define REMOTE_UNKNOWN 0	  /* no prefix matches */
#define REMOTE_NONE (REMOTES - 1) /* no IP address: packet sockets */

/* Key of the table `remote_prefixes`: a prefix of an IPv6 address, IPv4 mapped into it. */
struct remote_prefix {
	__u32 bits;
	__u8 address[16]; /* network byte order */
};

/*
 * An IP address and what it has received and transmitted, seen from itself. It is this host's own, or it
 * is behind one of this host's devices. Of the table `hosts`, each processor has values of its own.
 */
struct host_key {
	__u8 address[16]; /* network byte order, IPv4 mapped into IPv6 */
	__u32 device;	  /* its index, or one of these: */
};

#define HOST_LOCAL 0U	      /* this host's own */
#define HOST_REST 0xffffffffU /* all those that found no room; without an address */

struct host {
	struct counters counters;
	__u64 last_time_ns;	      /* of use, since boot, to the tick */
	__u64 tick;		      /* then */
	__u64 walk;		      /* the last that has found connections of it, */
	__u32 connections[PROTOCOLS]; /* and how many; of this host's own */
};

/* What TCP says of its own sockets: another layer, never added to `counters`. */
struct tcp_traffic {
	__u64 received;	    /* bytes of payload, in order */
	__u64 acknowledged; /* bytes of payload that the other side has confirmed */
	__u64 retransmits;  /* segments sent again */
};

/*
 * Smoothed round-trip times of connections that have ended. Bucket i counts those up to
 * ROUND_TRIP_FIRST_US << 2i, the last bucket the others.
 */
#define ROUND_TRIP_FIRST_US 64U
#define ROUND_TRIP_BUCKETS 10

/*
 * A task's identity in one word, so that a socket's owner changes atomically:
 *
 *	bits 0..21	pid of the task in the initial namespace (the kernel's limit is 2^22)
 *	bit  22		set: a thread, clear: a process
 *	bits 23..63	its start, nanoseconds since boot / 1024, modulo 2^41
 *
 * Two tasks share a word only if they had one pid and started a multiple of 26 days apart to the
 * microsecond; the first is long out of the table by then. 0 is nobody.
 */
#define IDENTITY_PID_BITS 22
#define IDENTITY_THREAD (1ULL << IDENTITY_PID_BITS)
#define IDENTITY_START_SHIFT 10
#define IDENTITY_NOBODY 0ULL
/* The table had no room for the owner. No task has this word: pid 1 did not start at boot. */
#define IDENTITY_OVERFLOW 1ULL

/* A process or thread that has used the network: value of the table `tasks`, keyed by identity. */
struct task {
	__u64 process;	     /* the identity of its process; its own if it is one */
	__u64 start_time_ns; /* since boot, suspended time included */
	__u64 end_time_ns;   /* 0: alive */
	__u64 cgroup_id;
	__u32 tgid;
	__u32 pid;
	__u32 uid;
	__u32 exit_code; /* as wait(2) reports it */
	__u32 threads;	 /* of the process, ended since its record began; in the end all */
	__u32 sockets;	 /* that the process has used */
	char command[COMMAND_LENGTH];
	struct counters counters;
	struct tcp_traffic tcp;
	__u64 round_trip_sum_us;
	__u32 round_trips[ROUND_TRIP_BUCKETS];
	/* Of a process, if settings.count_remotes: the same packets as in `counters`, by class. */
	struct traffic remotes[REMOTES][DIRECTIONS];
	__u64 remotes_whole; /* since the record began: both have the same sums */
};

/* One socket, as the iterator `walk_sockets` writes it when settings.list_sockets is set. */
struct socket_record {
	__u64 cookie;
	__u64 owner[DIRECTIONS]; /* identities */
	struct traffic traffic[DIRECTIONS];
	struct tcp_traffic tcp;
	__u8 local_address[16]; /* IPv4 in the first four bytes */
	__u8 remote_address[16];
	__u32 network_namespace; /* inode number */
	__u16 local_port;
	__u16 remote_port;
	__u16 family;	/* AF_INET, AF_INET6 */
	__u16 protocol; /* enum protocol */
	__u32 state;	/* enum of TCP states; for UDP 1 connected, 7 not */
};

/* What `walk_sockets` writes last. */
struct socket_summary {
	__u64 sockets[PROTOCOLS];
	__u64 session; /* of the walk */
};

/*
 * What the program `adopt` is given: the record of a task, or counters of nobody's by reason, or, in
 * the first packet counter, a number of losses.
 */
#define ADOPT_LOST 16 /* and up: enum loss; below: enum reason */
#define ADOPT_NOBODYS 32

struct adoption {
	__u64 identity;
	struct task task;
};

/* Set by the loader before the object is loaded; all of the object's read-only data. */
#define ANSWER_NETATOP 1  /* see compat.bpf.h */
#define ANSWER_AND_READ 2 /* and the exporter itself reads the exit list, for its log */

struct settings {
	__u32 fingerprint;
	__u32 count_threads; /* 0: owners are processes */
	__u32 list_sockets;
	__u32 cgroup_level; /* of the cgroup that the programs are attached to */
	__u64 cgroup_id;
	__u32 walk_files;      /* sockets are settled by way of files, see walk.bpf.h */
	__u32 know_tcp_sender; /* before the packet leaves: own_tcp_sender is attached */
	__u32 count_remotes;
	__u32 has_spares;     /* two programs at each tracepoint, see spare.bpf.h */
	__u64 remotes_digest; /* of the prefixes, so that two sets of programs differ if these do */
	__u32 answer_netatop; /* ANSWER_*; nothing waits in a socket then */
	__u32 know_sender;    /* when a send has ended: own_sender is attached */
	__u64 max_hosts;      /* addresses; 0: they are not counted */
};

#pragma clang diagnostic pop

/* Packets of a task that has ended join its record for this long. */
#define LATE_NS (15ULL * 1000 * 1000 * 1000)

#endif
