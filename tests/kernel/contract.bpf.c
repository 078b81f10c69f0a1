// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Fills every field of the contract's structs with a value of its own; see test_contract.py. */
#include "forward.h"
#include "kernel.h"
#include "netatop.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

const volatile struct settings settings = {};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} __attribute__((preserve_access_index));

static __always_inline void fill_counters(struct counters *counters)
{
	for (int protocol = 0; protocol < PROTOCOLS; protocol++)
		for (int direction = 0; direction < DIRECTIONS; direction++) {
			struct traffic *traffic = &counters->of[protocol][direction];

			traffic->packets = 1000 + 100 * protocol + 10 * direction;
			traffic->bytes = 1001 + 100 * protocol + 10 * direction;
		}
}

static __always_inline void fill_remotes(struct task *task)
{
	for (int i = 0; i < REMOTES * DIRECTIONS; i++) {
		task->remotes[i / DIRECTIONS][i % DIRECTIONS].packets = 2000 + 2 * i;
		task->remotes[i / DIRECTIONS][i % DIRECTIONS].bytes = 2001 + 2 * i;
	}
}

/* Each writes once, at the end of the walk. Static: some are larger than the stack. */
#define WRITE(name, type, ...) \
	SEC("iter/task") int write_##name(struct bpf_iter__task *context) \
	{ \
		static type name; \
\
		if (context->task) \
			return 0; \
		__VA_ARGS__ \
		bpf_seq_write(context->meta->seq, &name, sizeof(name)); \
		return 0; \
	}

WRITE(counters, struct counters, fill_counters(&counters);)

WRITE(
	task, struct task, task.process = 1; task.start_time_ns = 2; task.end_time_ns = 3;
	task.cgroup_id = 4; task.tgid = 5; task.pid = 6; task.uid = 7; task.exit_code = 8;
	__builtin_memcpy(task.command, "command", sizeof("command")); fill_counters(&task.counters);
	task.threads = 9; task.sockets = 10; task.tcp.received = 11; task.tcp.acknowledged = 12;
	task.tcp.retransmits = 13; task.round_trip_sum_us = ROUND_TRIP_FIRST_US;
	for (int i = 0; i < ROUND_TRIP_BUCKETS;
	     i++) { task.round_trips[i] = 14 + i; } fill_remotes(&task);
	task.remotes_whole = 24;)

WRITE(
	socket_record, struct socket_record, socket_record.cookie = 1;
	socket_record.owner[DIRECTION_RECEIVE] = 2; socket_record.owner[DIRECTION_TRANSMIT] = 3;
	socket_record.traffic[DIRECTION_RECEIVE].packets = 4;
	socket_record.traffic[DIRECTION_RECEIVE].bytes = 5;
	socket_record.traffic[DIRECTION_TRANSMIT].packets = 6;
	socket_record.traffic[DIRECTION_TRANSMIT].bytes = 7; socket_record.tcp.received = 12;
	socket_record.tcp.acknowledged = 13; socket_record.tcp.retransmits = 14;
	for (int i = 0; i < 16; i++) {
		socket_record.local_address[i] = 16 + i;
		socket_record.remote_address[i] = 32 + i;
	} socket_record.network_namespace = 8;
	socket_record.local_port = 9; socket_record.remote_port = 10;
	socket_record.family = AF_INET6; socket_record.protocol = PROTOCOL_OTHER;
	socket_record.state = 11;)

WRITE(socket_summary, struct socket_summary, socket_summary.sockets[PROTOCOL_TCP] = 1;
      socket_summary.sockets[PROTOCOL_UDP] = 2; socket_summary.sockets[PROTOCOL_ICMP] = 3;
      socket_summary.sockets[PROTOCOL_OTHER] = 4; socket_summary.session = 5;)

/* The other way: what user space has set. */
WRITE(settings_read, struct settings, settings_read.fingerprint = settings.fingerprint + 1;
      settings_read.count_threads = settings.count_threads + 1;
      settings_read.list_sockets = settings.list_sockets + 1;
      settings_read.cgroup_level = settings.cgroup_level + 1;
      settings_read.cgroup_id = settings.cgroup_id + 1;
      settings_read.walk_files = settings.walk_files + 1;
      settings_read.know_tcp_sender = settings.know_tcp_sender + 1;
      settings_read.count_remotes = settings.count_remotes + 1;
      settings_read.has_spares = settings.has_spares + 1;
      settings_read.remotes_digest = settings.remotes_digest + 1;
      settings_read.answer_netatop = settings.answer_netatop + 1;
      settings_read.know_sender = settings.know_sender + 1;
      settings_read.max_hosts = settings.max_hosts + 1;)

WRITE(
	host_key, struct host_key, host_key.device = 1;
	for (int i = 0; i < 16; i++) { host_key.address[i] = 2 + i; })

WRITE(host, struct host, fill_counters(&host.counters); host.last_time_ns = 1; host.tick = 2;
      host.walk = 3; host.connections[PROTOCOL_TCP] = 4; host.connections[PROTOCOL_UDP] = 5;
      host.connections[PROTOCOL_ICMP] = 6; host.connections[PROTOCOL_OTHER] = 7;)

WRITE(
	flow_key, struct flow_key,
	for (int i = 0; i < 16; i++) {
		flow_key.address[i] = 16 + i;
		flow_key.peer[i] = 32 + i;
	} flow_key.device = 1;
	flow_key.port = 2; flow_key.peer_port = 3; flow_key.protocol = 4;)

WRITE(flow, struct flow, flow.traffic[DIRECTION_RECEIVE].packets = 1;
      flow.traffic[DIRECTION_RECEIVE].bytes = 2; flow.traffic[DIRECTION_TRANSMIT].packets = 3;
      flow.traffic[DIRECTION_TRANSMIT].bytes = 4; flow.first_time_ns = 5; flow.last_time_ns = 6;
      flow.tick = 7; flow.opened_by = 8; flow.state = 9;)

WRITE(
	remote_prefix, struct remote_prefix, remote_prefix.bits = 1;
	for (int i = 0; i < 16; i++) { remote_prefix.address[i] = 2 + i; })
