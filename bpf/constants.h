/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Constants of the kernel's interfaces, by the header that has them. */
#ifndef NETATOP_CONSTANTS_H
#define NETATOP_CONSTANTS_H

/* include/linux/socket.h, include/uapi/linux/in.h: constants of the kernel's interface */
#define AF_INET 2
#define AF_INET6 10
#define AF_PACKET 17
#define SOCK_STREAM 1
#define SOCK_RAW 3
#define MSG_PEEK 0x2
#define MSG_ERRQUEUE 0x2000
#define IPPROTO_HOPOPTS 0
#define IPPROTO_ICMP 1
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_ICMPV6 58
#define IPPROTO_DSTOPTS 60
#define IPPROTO_MPTCP 262
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
/* include/linux/sched.h */
#define PF_EXITING 0x00000004
#define PF_IO_WORKER 0x00000010
#define PF_KTHREAD 0x00200000
/* include/linux/sched/signal.h */
#define SIGNAL_GROUP_EXIT 0x00000004
/* include/net/tcp_states.h */
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_SYN_RECV 3
#define TCP_TIME_WAIT 6
#define TCP_CLOSE 7
#define TCP_LISTEN 10
#define TCP_NEW_SYN_RECV 12
/* include/uapi/linux/netfilter.h */
#define NF_ACCEPT 1
/* include/uapi/asm-generic/errno-base.h, errno.h */
#define EPERM 1
#define ESRCH 3
#define E2BIG 7
#define EAGAIN 11
#define EFAULT 14
#define EEXIST 17
#define EINVAL 22
#define ENOPROTOOPT 92
/* include/uapi/linux/pkt_cls.h, icmp.h, icmpv6.h */
#define TC_ACT_UNSPEC (-1)
#define ICMP_ECHO_REPLY 0
#define ICMP_ECHO 8
#define ICMPV6_ECHO 128
#define ICMPV6_ECHO_REPLY 129
/* include/uapi/linux/capability.h, include/linux/socket.h */
#define CAP_NET_ADMIN 12
#define SOL_IP 0
/* include/uapi/linux/stat.h */
#define S_IFMT 0170000
#define S_IFSOCK 0140000

#endif
