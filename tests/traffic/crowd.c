// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * crowd PROCESSES: so many processes that receive what is sent to them, each on a UDP socket of its own
 * on the loopback address. Each writes its pid and its port to standard output, 4 bytes each. They end
 * with the first one, which ends when its standard input does.
 */
#include <arpa/inet.h>
#include <err.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void receive(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	char datagram[2048];
	uint32_t said[2];
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) ||
	    getsockname(fd, (struct sockaddr *)&address, &length))
		err(1, "socket");
	said[0] = getpid();
	said[1] = ntohs(address.sin_port);
	if (write(1, said, sizeof(said)) != sizeof(said))
		err(1, "standard output");
	while (recv(fd, datagram, sizeof(datagram), 0) >= 0)
		;
}

int main(int argc, char **argv)
{
	char end;

	for (int left = argc == 2 ? atoi(argv[1]) : 0; left; left--) {
		pid_t child = fork();

		if (child < 0)
			err(1, "fork");
		if (!child) {
			receive();
			return 1;
		}
	}
	return read(0, &end, 1) != 0;
}
