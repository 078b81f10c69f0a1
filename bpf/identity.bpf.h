/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A task's identity, see netatop.h. */
#ifndef NETATOP_IDENTITY_H
#define NETATOP_IDENTITY_H

#include "netatop.h"

static __always_inline __u64 identity_of(__u32 pid, __u64 start_time_ns)
{
	return start_time_ns >> IDENTITY_START_SHIFT << (IDENTITY_PID_BITS + 1) | pid;
}

#endif
