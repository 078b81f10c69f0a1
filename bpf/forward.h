/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The contract of forward.bpf.c, beside that of netatop.h. */
#ifndef NETATOP_FORWARD_H
#define NETATOP_FORWARD_H

#include "netatop.h"

#pragma clang diagnostic push
#pragma clang diagnostic error "-Wpadded"

/* A connection of an address behind a device; for ICMP the port is the identifier of an echo. */
struct flow_key {
	__u8 address[16]; /* of the host; both as in struct host_key */
	__u8 peer[16];
	__u32 device;
	__u16 port;
	__u16 peer_port;
	__u32 protocol; /* of IP */
};

#define FLOW_RESET 4U	    /* and a FIN of each direction: 1 << enum direction */
#define FLOW_SEEN_TO_END 3U /* both */
#define FLOW_OPEN 8U	    /* whoever opened it has acknowledged an answer */

struct flow {
	struct traffic traffic[DIRECTIONS]; /* of the host */
	__u64 first_time_ns;		    /* since boot, as the next, to the tick */
	__u64 last_time_ns;
	__u64 tick;
	__u32 opened_by; /* enum direction: of its first packet */
	__u32 state;
};

/* What walk_flows writes last; before it a struct flow_key of each that is no connection any more. */
struct flow_walk {
	__u64 session;
	__u64 flows;
};

struct forward_settings {
	__u32 fingerprint;
	__u32 count_flows; /* 0: addresses alone */
};

#pragma clang diagnostic pop

#endif
