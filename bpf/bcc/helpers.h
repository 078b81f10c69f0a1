/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What libbpf's headers have, for bcc: included before everything else. bcc's own declarations are left
 * out, because they cut results to 32 bits (a socket's cookie) and can't do without kernel headers.
 */
#ifndef NETATOP_BCC_HELPERS_H
#define NETATOP_BCC_HELPERS_H

#ifndef NULL
#define NULL ((void *)0)
#endif
#define bool _Bool
#define true 1
#define false 0

#ifndef READ_KERNEL /* 113 and 115 since Linux 5.5; before, what reads everything */
#define READ_KERNEL 113
#define READ_KERNEL_STR 115
#endif

__u64 bpf_pseudo_fd(__u64 type, __u64 fd) asm("llvm.bpf.pseudo");

/* enum bpf_func_id (include/uapi/linux/bpf.h): numbers, since bcc may be older than the kernel */
static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value,
				   __u64 flags) = (void *)2;
static long (*bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static __u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static __u64 (*bpf_get_current_pid_tgid)(void) = (void *)14;
static long (*bpf_skb_load_bytes)(const void *skb, __u32 offset, void *to,
				  __u32 length) = (void *)26;
static __u64 (*bpf_get_current_task)(void) = (void *)35;
static __u64 (*bpf_get_socket_cookie)(void *context) = (void *)46;
static long (*bpf_skb_load_bytes_relative)(const void *skb, __u32 offset, void *to, __u32 length,
					   __u32 start) = (void *)68;
static struct bpf_sock *(*bpf_sk_fullsock)(struct bpf_sock *sk) = (void *)95;
static long (*bpf_probe_read_kernel)(void *to, __u32 length,
				     const void *from) = (void *)READ_KERNEL;
static long (*bpf_probe_read_kernel_str)(void *to, __u32 length,
					 const void *from) = (void *)READ_KERNEL_STR;
/* These are put in their place by bcc, if it may not see the kernel's symbols. */
static long (*bpf_probe_read)(void *to, __u32 length, const void *from) = (void *)READ_KERNEL;
static long (*bpf_probe_read_str)(void *to, __u32 length,
				  const void *from) = (void *)READ_KERNEL_STR;
static __u64 (*bpf_ktime_get_boot_ns)(void) = (void *)125;

/* What a function was called with; arch/.../include/asm/ptrace.h */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8;
	unsigned long ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};
#define PT_REGS_PARM1(context) ((context)->di)
#define PT_REGS_PARM2(context) ((context)->si)
#define PT_REGS_PARM3(context) ((context)->dx)
#define PT_REGS_PARM4(context) ((context)->cx)
#define PT_REGS_RC(context) ((context)->ax)
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31], sp, pc, pstate;
};
#define PT_REGS_PARM1(context) ((context)->regs[0])
#define PT_REGS_PARM2(context) ((context)->regs[1])
#define PT_REGS_PARM3(context) ((context)->regs[2])
#define PT_REGS_PARM4(context) ((context)->regs[3])
#define PT_REGS_RC(context) ((context)->regs[0])
#endif

#endif
