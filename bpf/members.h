/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Every member of the kernel's types that the portable object reads, and no other:
 *
 *	MEMBER(struct, path, name, type)	read_<name>(pointer) returns what is there
 *	PLACE(struct, path, name)		place_<name>(pointer) returns where that is
 *
 * With libbpf the offsets are relocated at load time (CO-RE); with bcc they are OFFSET_<name>, -1 for
 * a member that the kernel does not have. Only those that has_<name>() is asked of may be missing.
 */
#ifndef NETATOP_MEMBERS_H
#define NETATOP_MEMBERS_H

#define MEMBERS(MEMBER) \
	MEMBER(task_struct, flags, task_flags, __u32) \
	MEMBER(task_struct, pid, task_pid, __u32) \
	MEMBER(task_struct, tgid, task_tgid, __u32) \
	MEMBER(task_struct, exit_code, task_exit_code, __u32) \
	MEMBER(task_struct, group_leader, task_leader, __u64) \
	MEMBER(task_struct, start_boottime, task_start, __u64) \
	MEMBER(task_struct, cred, task_cred, __u64) \
	MEMBER(task_struct, signal, task_signal, __u64) \
	MEMBER(task_struct, cgroups, task_cgroups, __u64) \
	MEMBER(cred, uid, cred_uid, __u32) \
	MEMBER(signal_struct, live, signal_live, __u32) \
	MEMBER(signal_struct, flags, signal_flags, __u32) \
	MEMBER(signal_struct, group_exit_code, signal_exit_code, __u32) \
	MEMBER(signal_struct, group_exec_task, signal_exec_task, __u64) \
	MEMBER(css_set, dfl_cgrp, css_cgroup, __u64) \
	MEMBER(cgroup, level, cgroup_level, __u32) \
	MEMBER(cgroup, kn, cgroup_node, __u64) \
	MEMBER(cgroup, self.parent, cgroup_parent, __u64) \
	MEMBER(kernfs_node, id, node_id, __u64) \
	MEMBER(socket, sk, socket_sk, __u64) \
	MEMBER(socket, file, socket_file, __u64) \
	MEMBER(file, private_data, file_data, __u64) \
	MEMBER(file, f_inode, file_inode, __u64) \
	MEMBER(inode, i_mode, inode_mode, __u16) \
	MEMBER(sock, sk_socket, sock_socket, __u64) \
	MEMBER(sock, __sk_common.skc_cookie, sock_cookie, __u64) \
	MEMBER(sock, __sk_common.skc_family, sock_family, __u16) \
	MEMBER(sock, __sk_common.skc_state, sock_state, __u8) \
	MEMBER(sock, __sk_common.skc_num, sock_port, __u16) \
	MEMBER(sock, __sk_common.skc_rcv_saddr, sock_address, __u32) \
	MEMBER(sock, __sk_common.skc_net.net, sock_net, __u64) \
	MEMBER(net, ns.inum, net_inode, __u32) \
	MEMBER(udp_sock, pending, udp_pending, __u32) \
	MEMBER(sk_buff, len, skb_length, __u32) \
	MEMBER(sk_buff, protocol, skb_link_protocol, __u16) \
	MEMBER(sk_buff, network_header, skb_network_header, __u16) \
	MEMBER(sk_buff, end, skb_end, __u32) \
	MEMBER(sk_buff, head, skb_head, __u64) \
	MEMBER(sk_buff, data, skb_data, __u64) \
	MEMBER(skb_shared_info, gso_segs, shared_segments, __u16) \
	MEMBER(trace_event_raw_kfree_skb, rx_sk, freed_sk, __u64)

#define PLACES(PLACE) \
	PLACE(task_struct, comm, task_command) \
	PLACE(sock, __sk_common.skc_v6_rcv_saddr, sock_address_six)

#endif
