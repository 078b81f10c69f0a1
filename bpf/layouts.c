// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* One object of each type of the contract, so that the compiler describes all of them. */
#include "forward.h"
#include "netatop.h"
#include "portable.h"
#include "watch.h"

struct task task_;
struct socket_record socket_record_;
struct socket_summary socket_summary_;
struct counters counters_;
struct settings settings_;
struct remote_prefix remote_prefix_;
struct host_key host_key_;
struct host host_;
struct flow_key flow_key_;
struct flow flow_;
struct flow_walk flow_walk_;
struct forward_settings forward_settings_;
struct life life_;
struct life_filter life_filter_;
struct life_key life_key_;
struct life_counts life_counts_;
struct socket_meter socket_meter_;
struct listening listening_;
struct listener_of listener_of_;
struct call call_;
struct portable_settings portable_settings_;
enum protocol protocol_;
enum direction direction_;
enum reason reason_;
enum loss loss_;
enum life_event life_event_;
