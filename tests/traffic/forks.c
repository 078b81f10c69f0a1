// SPDX-License-Identifier: Apache-2.0
/*
 * Processes by the ten thousand, one after the other, that share a few ids.
 *
 *	forks FORKS SPAN FIRST ADDRESS PORT
 *
 * In a new pid namespace with a small kernel.pid_max. Each process has one of SPAN ids, in turn, also in the
 * initial namespace, from FIRST on (clone3(2), set_tid). The one with number n sends 1 + n % 3 datagrams of
 * 23 + n % 1009 bytes and exits with status n % 128. Prints how many ids were in use by others.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sockaddr_storage address;
static socklen_t length;

static void live(long number)
{
	static char payload[2048];
	int fd = socket(address.ss_family, SOCK_DGRAM, 0);

	for (long i = 0; i < 1 + number % 3; i++)
		if (sendto(fd, payload, 23 + number % 1009, 0, (void *)&address, length) < 0 &&
		    errno != ECONNREFUSED)
			_exit(255);
	_exit(number % 128);
}

/* Returns the id in the initial namespace, 0 if it is taken. */
static pid_t clone_as(pid_t inside, pid_t outside, long number)
{
	pid_t ids[] = {inside, outside};
	struct clone_args arguments = {
		.exit_signal = SIGCHLD,
		.set_tid = (__u64)ids,
		.set_tid_size = 2,
	};
	long pid = syscall(SYS_clone3, &arguments, sizeof(arguments));

	if (!pid)
		live(number);
	if (pid < 0 && errno != EEXIST)
		err(1, "clone3 as %d, %d", inside, outside);
	return pid > 0 ? outside : 0;
}

static int run(long forks, long span, pid_t first)
{
	FILE *limit = fopen("/proc/sys/kernel/pid_max", "w");
	long taken = 0, id = 0;

	if (!limit || fprintf(limit, "%ld\n", span + 301) < 0 || fclose(limit))
		err(1, "kernel.pid_max of the namespace");
	for (long number = 0; number < forks; number++) {
		int status;

		while (!clone_as(2 + id % span, first + id % span, number)) {
			taken++;
			id++;
		}
		id++;
		if (wait(&status) < 0 || status != (int)(number % 128) << 8)
			errx(1, "process %ld ended with status %#x", number, status);
	}
	printf("%ld\n", taken);
	return fflush(stdout);
}

int main(int argc, char **argv)
{
	struct sockaddr_in *four = (void *)&address;
	struct sockaddr_in6 *six = (void *)&address;
	int status;
	pid_t child;

	if (argc != 6)
		errx(2, "usage: forks FORKS SPAN FIRST ADDRESS PORT");
	if (strchr(argv[4], ':')) {
		*six = (struct sockaddr_in6){AF_INET6, htons(atoi(argv[5])), 0, {}, 0};
		inet_pton(AF_INET6, argv[4], &six->sin6_addr);
		length = sizeof(*six);
	} else {
		*four = (struct sockaddr_in){AF_INET, htons(atoi(argv[5])), {}, {}};
		inet_pton(AF_INET, argv[4], &four->sin_addr);
		length = sizeof(*four);
	}
	if (unshare(CLONE_NEWPID))
		err(1, "unshare");
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (!child)
		return run(atol(argv[1]), atol(argv[2]), atoi(argv[3]));
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
