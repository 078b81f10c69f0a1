/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The contract of the other object: events in the lives of processes and threads, for one watcher. */
#ifndef NETATOP_WATCH_H
#define NETATOP_WATCH_H

#include "netatop.h"

/* An abort is an exit by a signal. */
enum life_event {
	LIFE_EVENT_FORK,
	LIFE_EVENT_EXEC,
	LIFE_EVENT_EXIT,
	LIFE_EVENT_ABORT,
	LIFE_EVENT_THREAD_CREATE,
	LIFE_EVENT_THREAD_EXIT,
	LIFE_EVENTS
};

#pragma clang diagnostic push
#pragma clang diagnostic error "-Wpadded"

struct life {
	__u64 time_ns; /* since boot, suspended time included */
	__u64 start_time_ns;
	__u32 tgid;
	__u32 pid;    /* of the thread; of a process, its tgid */
	__u32 parent; /* tgid */
	__u32 uid;
	__u32 exit_code; /* as wait(2) reports it */
	__u32 event;	 /* enum life_event */
	__u64 cgroup_id;
	char command[COMMAND_LENGTH];
};

/* All descendants of the process too; the table `tree` holds those that live. */
#define LIFE_TREE 1
/* Events are counted in the table `counts`, not told. */
#define LIFE_COUNT 2
/* Two programs are attached to each tracepoint, see spare.bpf.h. */
#define LIFE_SPARES 4

/* Set by the loader before the object is loaded; all of the object's read-only data. */
struct life_filter {
	__u32 fingerprint;
	__u32 events;		      /* bits by enum life_event */
	__u32 tgid;		      /* 0: every process */
	__u32 how;		      /* bits LIFE_* */
	char command[COMMAND_LENGTH]; /* empty: any */
};

/* Key of the table `counts`: all that a process's group can be made of. All zero: the rest. */
struct life_key {
	__u64 cgroup_id;
	__u64 uid;
	char command[COMMAND_LENGTH]; /* of the process */
};

struct life_counts {
	__u64 of[LIFE_EVENTS];
};

#pragma clang diagnostic pop

#endif
