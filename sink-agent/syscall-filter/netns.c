#define _GNU_SOURCE
#include "netns.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

int netns_enter(pid_t pid)
{
	char path[32];
	int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), error = 0;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	int theirs = own < 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	if (theirs < 0 || setns(theirs, CLONE_NEWNET))
		error = -errno;
	if (theirs >= 0)
		close(theirs);
	if (error && own >= 0)
		close(own);
	return error ? error : own;
}

int netns_leave(int own)
{
	int error = setns(own, CLONE_NEWNET) ? -errno : 0;

	close(own);
	return error;
}
