/*
 * What the syscall filter costs the process under it. Obeys lines of standard input, a socket pair:
 *   cheap N, recv N   makes N calls, which the rules allow at once, or after a look at a descriptor; answers the nanoseconds of each
 *   idle HZ           from then on waits in poll() with that many time-outs a second, as an idle daemon does
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double nanoseconds_each(long count, int on_descriptor)
{
	struct timespec from, to;
	char byte;

	clock_gettime(CLOCK_MONOTONIC, &from);
	for (long i = 0; i < count; i++)
		if (on_descriptor)
			recv(0, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
		else
			syscall(SYS_getppid);
	clock_gettime(CLOCK_MONOTONIC, &to);
	return ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / (double)count;
}

int main(void)
{
	struct pollfd input = { 0, POLLIN, 0 };
	char line[64] = "";
	int timeout = -1;

	for (;;) {
		if (poll(&input, 1, timeout) == 0)
			continue;
		ssize_t got = read(0, line, sizeof(line) - 1);
		if (got <= 0)
			return 0;
		line[got] = 0;
		long number = atol(strchr(line, ' ') + 1);
		if (!strncmp(line, "idle", 4))
			timeout = (int)(number ? 1000 / number : -1), dprintf(0, "idle\n");
		else
			dprintf(0, "%.0f\n", nanoseconds_each(number, *line == 'r'));
	}
}
