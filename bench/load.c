// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Load over loopback from one process to another, each on a processor of its own, for so many seconds.
 *
 *	load udp|udp6|hosts|bulk|bytes|echo|connect|exits SECONDS
 *
 * udp: datagrams of 200 bytes; udp6: over IPv6; hosts: each from and to another of 64 addresses; bulk: one TCP stream; bytes: the same, but one byte a call; echo: one
 * byte there and back over TCP; connect: TCP connections that carry one byte there and back; exits:
 * processes that send one datagram and exit, on all processors. Prints how much one second moved, and
 * one second of processor time of all processes: datagrams, bytes, round trips, connections, processes.
 */
#define _GNU_SOURCE
#include <err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DATAGRAM 200
#define CHUNK (128 * 1024)

static char buffer[CHUNK];
static struct sockaddr_in6 six = {.sin6_family = AF_INET6};
static struct sockaddr_in four = {.sin_family = AF_INET};
static struct sockaddr *address = (struct sockaddr *)&four;
static socklen_t address_length = sizeof(four);

static bool is(const char *mode, const char *name)
{
	return !strcmp(mode, name);
}

static bool is_datagrams(const char *mode)
{
	return is(mode, "udp") || is(mode, "udp6") || is(mode, "hosts");
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static double used(int who)
{
	struct rusage usage;

	getrusage(who, &usage);
	return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
	       (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Best effort: on one processor both share it. */
static void pin(int processor)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static int check(int result, const char *what)
{
	if (result < 0)
		err(1, "%s", what);
	return result;
}

static int bound(int type)
{
	int fd = check(socket(address->sa_family, type, 0), "socket");

	check(bind(fd, address, address_length), "bind");
	check(getsockname(fd, address, &address_length), "getsockname");
	if (type == SOCK_STREAM)
		check(listen(fd, 128), "listen");
	return fd;
}

static int connected(int type)
{
	int fd = check(socket(address->sa_family, type, 0), "socket"), on = 1;

	check(connect(fd, address, address_length), "connect");
	if (type == SOCK_STREAM)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

static void serve(const char *mode, int fd)
{
	int waiting;

	/* Never sleeps: waking it would be most of the sender's work, and on a virtual machine an exit. */
	if (is_datagrams(mode))
		for (;;)
			if (!ioctl(fd, FIONREAD, &waiting) && waiting)
				recv(fd, buffer, sizeof(buffer), 0);
	for (;;) {
		int peer = check(accept(fd, NULL, NULL), "accept"), on = 1;
		ssize_t length;

		setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		while ((length = recv(peer, buffer, is(mode, "bytes") ? 1 : CHUNK, 0)) > 0)
			if (is(mode, "echo") || is(mode, "connect"))
				send(peer, buffer, length, MSG_NOSIGNAL);
		close(peer);
	}
}

#define CHILDREN 4

static long exits(int fd)
{
	for (int i = 0; i < CHILDREN; i++)
		if (!check(fork(), "fork")) {
			send(fd, buffer, 1, 0);
			_exit(0);
		}
	for (int i = 0; i < CHILDREN; i++)
		check(wait(NULL), "wait");
	return CHILDREN;
}

#define HOSTS 64

/* 127.0.0.1 and so on, with the same number at both ends. */
static long send_to_next_host(int fd)
{
	static unsigned int number;
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(struct in_pktinfo))];
	} control = {.head = {CMSG_LEN(sizeof(struct in_pktinfo)), IPPROTO_IP, IP_PKTINFO}};
	struct in_pktinfo from = {.ipi_spec_dst = {htonl(INADDR_LOOPBACK + number++ % HOSTS)}};
	struct sockaddr_in to = four;
	struct iovec data = {buffer, DATAGRAM};
	struct msghdr message = {&to, sizeof(to), &data, 1, &control, sizeof(control), 0};

	to.sin_addr = from.ipi_spec_dst;
	memcpy(CMSG_DATA(&control.head), &from, sizeof(from));
	return sendmsg(fd, &message, 0) == DATAGRAM;
}

static long step(const char *mode, int fd)
{
	if (is(mode, "exits"))
		return exits(fd);
	if (is(mode, "hosts"))
		return send_to_next_host(fd);
	if (is(mode, "udp") || is(mode, "udp6"))
		return send(fd, buffer, DATAGRAM, 0) == DATAGRAM;
	if (is(mode, "bulk"))
		return check(send(fd, buffer, CHUNK, 0), "send");
	/* Joined to packets of full size: nearly all of these calls touch only the socket. */
	if (is(mode, "bytes"))
		return check(send(fd, buffer, 1, MSG_MORE), "send");
	if (is(mode, "connect"))
		fd = connected(SOCK_STREAM);
	check(send(fd, buffer, 1, 0), "send");
	check(recv(fd, buffer, 1, 0), "recv");
	if (is(mode, "connect"))
		close(fd);
	return 1;
}

int main(int argc, char **argv)
{
	const char *mode = argc == 3 ? argv[1] : "";
	bool datagrams = is_datagrams(mode) || is(mode, "exits");
	int type = datagrams ? SOCK_DGRAM : SOCK_STREAM, fd;
	double start, end;
	long moved = 0;
	pid_t server;

	if (!datagrams && !is(mode, "bulk") && !is(mode, "bytes") && !is(mode, "echo") &&
	    !is(mode, "connect"))
		errx(2, "usage: load udp|udp6|hosts|bulk|bytes|echo|connect|exits SECONDS");
	six.sin6_addr = in6addr_loopback;
	four.sin_addr.s_addr = htonl(is(mode, "hosts") ? INADDR_ANY : INADDR_LOOPBACK);
	if (is(mode, "udp6")) {
		address = (struct sockaddr *)&six;
		address_length = sizeof(six);
	}
	fd = bound(type);
	server = check(fork(), "fork");
	if (!server) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (is(mode, "exits"))
			for (;;)
				pause();
		pin(1);
		serve(mode, fd);
	}
	close(fd);
	if (!is(mode, "exits"))
		pin(0);
	if (is(mode, "hosts"))
		fd = check(socket(AF_INET, SOCK_DGRAM, 0), "socket");
	else
		fd = is(mode, "connect") ? -1 : connected(type);
	start = now();
	end = start + atof(argv[2]);
	while (now() < end)
		moved += step(mode, fd);
	start = now() - start;
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	printf("%.0f %.0f\n", moved / start, moved / (used(RUSAGE_SELF) + used(RUSAGE_CHILDREN)));
	return 0;
}
