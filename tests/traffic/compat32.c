// SPDX-License-Identifier: Apache-2.0
/*
 * Asks netatop's option for a process by the 32-bit system calls of i386, out of a 64-bit program.
 * Arguments: option, id. Writes the result of getsockopt, 0 or an error below 0.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { GETSOCKOPT = 365, SOCKET = 359, LENGTH = 96 };

static long call(long number, long b, long c, long d, long s, long i)
{
	long result;

	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(number), "b"(b), "c"(c), "d"(d), "S"(s), "D"(i)
			 : "memory", "r8", "r9", "r10", "r11");
	return (int)result;
}

int main(int count, char **words)
{
	int *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT,
			-1, 0);
	int *length = low + 256;
	long fd;

	if (count != 3 || low == MAP_FAILED)
		return 2;
	fd = call(SOCKET, 2, 2, 0, 0, 0);
	if (fd < 0)
		return 3; /* the kernel has no 32-bit system calls */
	*low = atoi(words[2]);
	*length = LENGTH;
	printf("%ld\n", call(GETSOCKOPT, fd, 0, atoi(words[1]), (long)low, (long)length));
	return 0;
}
