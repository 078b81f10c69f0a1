/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A program that would call a function that no kernel has. */
#include "../../bpf/fingerprint.h"
#include "../../bpf/kernel.h"

const volatile __u32 fingerprint = NETATOP_FINGERPRINT;

extern int no_kernel_has_this(void) __ksym __weak;

SEC("cgroup_skb/ingress")
int count(struct __sk_buff *skb)
{
	if (no_kernel_has_this)
		return no_kernel_has_this();
	return fingerprint != 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
