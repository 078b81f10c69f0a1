// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Programs that do nothing, at the hooks of bpf/netatop.bpf.c: what merely being called costs. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* A program of a cgroup lets the packet or the call pass with 1. */
#define EMPTY(name, section, result) \
	SEC(section) \
	int name(void *context) \
	{ \
		return result; \
	}

EMPTY(empty_receive, "cgroup_skb/ingress", 1)
EMPTY(empty_transmit, "cgroup_skb/egress", 1)
EMPTY(empty_created, "cgroup/sock_create", 1)
EMPTY(empty_released, "cgroup/sock_release", 1)
EMPTY(empty_getsockopt, "cgroup/getsockopt", 1)
EMPTY(empty_sender, "tp_btf/sock_send_length", 0)
EMPTY(empty_receiver, "tp_btf/sock_recv_length", 0)
EMPTY(empty_state, "tp_btf/inet_sock_set_state", 0)
EMPTY(empty_queue, "tp_btf/net_dev_queue", 0)
EMPTY(empty_drop, "tp_btf/kfree_skb", 0)
EMPTY(empty_device, "tc", -1) /* on to the next */

/* The price of one call out of a program, which differs much from one machine, or minute, to the next. */
SEC("tp_btf/net_dev_queue")
int one_call(void *context)
{
	bpf_get_numa_node_id();
	return 0;
}
