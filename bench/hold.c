// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Many processes with many sockets, each of which has sent one datagram to itself.
 *
 *	hold PROCESSES SOCKETS	that many sockets in each process
 *
 * Prints "ready", keeps everything until its standard input ends, and takes its processes with it.
 */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void use(unsigned int number)
{
	/* An address for each process: no two sockets want one port. 127.1.0.1 and on. */
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(0x7f010001 + number),
	};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	char byte;

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) ||
	    getsockname(fd, (struct sockaddr *)&address, &length) ||
	    sendto(fd, "", 1, 0, (struct sockaddr *)&address, length) != 1 ||
	    recv(fd, &byte, 1, 0) != 1)
		err(1, "socket");
}

static pid_t children[10000];

int main(int argc, char **argv)
{
	int processes = argc == 3 ? atoi(argv[1]) : 0, sockets = argc == 3 ? atoi(argv[2]) : 0;
	struct rlimit limit;
	int done[2];
	char byte;

	if (processes < 1 || processes > 10000 || sockets < 1 || sockets > 210000)
		errx(2, "usage: hold PROCESSES SOCKETS (at most 10000 and 210000)");
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (pipe(done))
		err(1, "pipe");
	for (int number = 0; number < processes; number++) {
		pid_t child = fork();

		if (child < 0)
			err(1, "fork");
		children[number] = child;
		if (child)
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (int count = 0; count < sockets; count++)
			use(number);
		if (write(done[1], "", 1) != 1)
			return 1;
		for (;;)
			pause();
	}
	close(done[1]);
	for (int number = 0; number < processes; number++)
		if (read(done[0], &byte, 1) != 1)
			errx(1, "a process failed");
	puts("ready");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
	for (int number = 0; number < processes; number++)
		kill(children[number], SIGKILL);
	while (wait(NULL) > 0)
		;
	return 0;
}
