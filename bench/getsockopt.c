// SPDX-License-Identifier: Apache-2.0
/*
 * Calls getsockopt(2) so many times, for itself as the id, and prints nanoseconds per call.
 * Arguments: level, option, length, calls. A datagram is sent first, so that the process is known.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **words)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(4093)};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct timespec start, end;
	socklen_t room;
	int own = getpid();
	long calls;

	if (count != 5 || fd < 0)
		return 2;
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	sendto(fd, "", 1, 0, (struct sockaddr *)&to, sizeof(to));
	room = atoi(words[3]);
	if (room > 96)
		return 2;
	calls = atol(words[4]);
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (long i = 0; i < calls; i++) {
		int value[24] = {own};
		socklen_t length = room;

		if (getsockopt(fd, atoi(words[1]), atoi(words[2]), value, &length))
			return 1;
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%f\n", ((end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec)) / calls);
	return 0;
}
