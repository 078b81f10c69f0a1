/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * One source, two compilers: clang beforehand, for libbpf, and bcc at start (NETATOP_BCC), which
 * defines what differs from kernel to kernel as macros:
 *
 *	MAP_<table>		its descriptor
 *	SETTING_<name>		a member of struct portable_settings
 *	OFFSET_<name>		a member of members.h
 *	DROP_NO_SOCKET, DROP_NO_PROTOCOL	of enum skb_drop_reason; -1 if there is none
 *	HAS_BOOT_CLOCK		the kernel has bpf_ktime_get_boot_ns() (Linux 5.8)
 *	KERNEL_SOCK_BYTE, KERNEL_SOCK_BIT	where struct sock has sk_kern_sock; -1 if that is not known
 */
#ifndef NETATOP_DIALECT_H
#define NETATOP_DIALECT_H

#include "members.h"

#ifdef NETATOP_BCC

#include "constants.h"

#define SEC(name)
#define MAP(name) ((void *)bpf_pseudo_fd(1, MAP_##name))
#define SETTING(name) SETTING_##name

/* bcc knows no functions but programs. */
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#undef __noinline
#define __noinline __always_inline

#define bpf_htons(number) __builtin_bswap16(number)
#define bpf_htonl(number) __builtin_bswap32(number)
#define bpf_ntohs(number) __builtin_bswap16(number)

#define DEFINE_MEMBER(structure, path, name, type) \
	static __always_inline bool has_##name(void) \
	{ \
		return OFFSET_##name >= 0; \
	} \
	static __always_inline type read_##name(__u64 pointer) \
	{ \
		type value = 0; \
		bpf_probe_read_kernel(&value, sizeof(value), (void *)(pointer + OFFSET_##name)); \
		return value; \
	}

#define DEFINE_PLACE(structure, path, name) \
	static __always_inline const void *place_##name(__u64 pointer) \
	{ \
		return (const void *)(pointer + OFFSET_##name); \
	}

MEMBERS(DEFINE_MEMBER)
PLACES(DEFINE_PLACE)

#define REGISTER_1(context) PT_REGS_PARM1(context)
#define REGISTER_2(context) PT_REGS_PARM2(context)
#define REGISTER_3(context) PT_REGS_PARM3(context)
#define REGISTER_4(context) PT_REGS_PARM4(context)
#define REGISTER_RESULT(context) PT_REGS_RC(context)

static __always_inline __u64 task_start(__u64 task)
{
	return read_task_start(task);
}

static __always_inline __u64 node_id(__u64 node)
{
	return read_node_id(node);
}

/* The kernel made it for itself. */
static __always_inline bool is_kern_sock(__u64 sk)
{
	__u8 byte = 0;

	if (KERNEL_SOCK_BYTE < 0)
		return false;
	bpf_probe_read_kernel(&byte, sizeof(byte), (void *)(sk + KERNEL_SOCK_BYTE));
	return byte >> KERNEL_SOCK_BIT & 1;
}

/* Programs of every kind may read the kernel's memory (Linux 5.8). */
static __always_inline bool reads_in_packets(void)
{
	return HAS_BOOT_CLOCK;
}

static __always_inline __u64 since_boot(void)
{
#if HAS_BOOT_CLOCK
	return bpf_ktime_get_boot_ns();
#else
	return bpf_ktime_get_ns();
#endif
}

#else

#include "kernel.h"

#define MAP(name) (&name)
#define SETTING(name) (settings.name)

#define DEFINE_MEMBER(structure, path, name, type) \
	static __always_inline bool has_##name(void) \
	{ \
		struct structure *typed = 0; \
		return bpf_core_field_exists(typed->path); \
	} \
	static __always_inline type read_##name(__u64 pointer) \
	{ \
		struct structure *typed = (void *)pointer; \
		type value = 0; \
		bpf_core_read(&value, sizeof(value), &typed->path); \
		return value; \
	}

#define DEFINE_PLACE(structure, path, name) \
	static __always_inline const void *place_##name(__u64 pointer) \
	{ \
		struct structure *typed = (void *)pointer; \
		return __builtin_preserve_access_index(&typed->path); \
	}

MEMBERS(DEFINE_MEMBER)
PLACES(DEFINE_PLACE)

#define DROP_NO_SOCKET bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_NO_SOCKET)
#define DROP_NO_PROTOCOL bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_IP_NOPROTO)

#if defined(__TARGET_ARCH_x86)
#define REGISTER_1(context) ((context)->di)
#define REGISTER_2(context) ((context)->si)
#define REGISTER_3(context) ((context)->dx)
#define REGISTER_4(context) ((context)->cx)
#define REGISTER_RESULT(context) ((context)->ax)
#elif defined(__TARGET_ARCH_arm64)
#define REGISTER_1(context) ((context)->regs[0])
#define REGISTER_2(context) ((context)->regs[1])
#define REGISTER_3(context) ((context)->regs[2])
#define REGISTER_4(context) ((context)->regs[3])
#define REGISTER_RESULT(context) ((context)->regs[0])
#endif

/* Named otherwise until Linux 5.4. */
static __always_inline __u64 task_start(__u64 task)
{
	struct task_struct___real *older = (void *)task;
	__u64 start = 0;

	if (has_task_start())
		return read_task_start(task);
	bpf_core_read(&start, sizeof(start), &older->real_start_time);
	return start;
}

/* A union until Linux 5.4. */
static __always_inline __u64 node_id(__u64 node)
{
	struct kernfs_node___union *older = (void *)node;
	__u64 id = 0;

	if (has_node_id())
		return read_node_id(node);
	bpf_core_read(&id, sizeof(id), &older->id);
	return id;
}

/* The kernel made it for itself. */
static __always_inline bool is_kern_sock(__u64 sk)
{
	struct sock *typed = (void *)sk;

	return BPF_CORE_READ_BITFIELD_PROBED(typed, sk_kern_sock);
}

/* Programs of every kind may read the kernel's memory (Linux 5.8). */
static __always_inline bool reads_in_packets(void)
{
	return bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_ktime_get_boot_ns);
}

static __always_inline __u64 since_boot(void)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_ktime_get_boot_ns))
		return bpf_ktime_get_boot_ns();
	return bpf_ktime_get_ns();
}

#endif

#endif
