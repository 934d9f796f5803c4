#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int cgroup_open(struct cgroup *cgroup, const char *path)
{
	cgroup->directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cgroup->directory < 0)
		return -errno;
	/* Writing cgroup.freeze needs root on the host, and is the one thing that works without the tracees' help. */
	cgroup->freeze = openat(cgroup->directory, "cgroup.freeze", O_WRONLY | O_CLOEXEC);
	cgroup->events = openat(cgroup->directory, "cgroup.events", O_RDONLY | O_CLOEXEC);
	return cgroup->freeze < 0 || cgroup->events < 0 ? -errno : 0;
}

int cgroup_freeze(const struct cgroup *cgroup, bool freeze)
{
	return pwrite(cgroup->freeze, freeze ? "1" : "0", 1, 0) == 1 ? 0 : -errno;
}

bool cgroup_is_frozen(const struct cgroup *cgroup)
{
	char text[256];
	ssize_t length = pread(cgroup->events, text, sizeof(text) - 1, 0);

	if (length < 0)
		return false;
	text[length] = 0;
	return strstr(text, "frozen 1") != NULL;
}

bool cgroup_wait_frozen(const struct cgroup *cgroup, int milliseconds)
{
	struct timespec start, now;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (;;) {
		if (cgroup_is_frozen(cgroup))
			return true;
		clock_gettime(CLOCK_MONOTONIC, &now);
		long left = milliseconds - ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000);
		if (left <= 0)
			return false;
		struct pollfd changed = { cgroup->events, POLLPRI, 0 };
		/* The kernel notifies at most every 10 ms or so; look in between. */
		poll(&changed, 1, left < 2 ? (int)left : 2);
	}
}

int cgroup_each_thread(const struct cgroup *cgroup, int (*each)(void *self, pid_t tid), void *self)
{
	int fd = openat(cgroup->directory, "cgroup.threads", O_RDONLY | O_CLOEXEC), count = 0;
	FILE *list = fd < 0 ? NULL : fdopen(fd, "r");
	long tid;

	if (!list)
		return -errno;
	while (count >= 0 && fscanf(list, "%ld", &tid) == 1) {
		int error = each(self, (pid_t)tid);
		count = error ? error : count + 1;
	}
	fclose(list);
	return count;
}

bool cgroup_has_children(const struct cgroup *cgroup)
{
	char text[512];
	int fd = openat(cgroup->directory, "cgroup.stat", O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	if (length <= 0)
		return true;
	text[length] = 0;
	const char *line = strstr(text, "nr_descendants ");
	return !line || atoi(line + strlen("nr_descendants ")) != 0;
}
