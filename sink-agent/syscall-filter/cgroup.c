#define _GNU_SOURCE
#include "cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
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

int cgroup_freeze(const struct cgroup *cgroup)
{
	return pwrite(cgroup->freeze, "1", 1, 0) == 1 ? 0 : -errno;
}

/* Calls `visit` for every cgroup below `directory`, then for itself, until one returns an error. */
static int walk(int directory, int (*visit)(void *self, int directory), void *self)
{
	int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), error = 0;
	DIR *entries = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;

	if (!entries)
		return -errno;
	while (!error && (entry = readdir(entries))) {
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		int below = openat(directory, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (below < 0 && errno == ENOENT)
			continue;
		error = below < 0 ? -errno : walk(below, visit, self);
		if (below >= 0)
			close(below);
	}
	closedir(entries);
	return error ? error : visit(self, directory);
}

static int thaw_one(void *self, int directory)
{
	int fd = openat(directory, "cgroup.freeze", O_WRONLY | O_CLOEXEC);
	int error = fd < 0 || write(fd, "0", 1) != 1 ? -errno : 0;

	(void)self;
	if (fd >= 0)
		close(fd);
	return error;
}

int cgroup_thaw(const struct cgroup *cgroup)
{
	return walk(cgroup->directory, thaw_one, NULL);
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

struct visitor {
	int (*each)(void *self, pid_t tid);
	void *self;
	int count;
};

static int list_threads(void *self, int directory)
{
	struct visitor *visitor = self;
	int fd = openat(directory, "cgroup.threads", O_RDONLY | O_CLOEXEC), error = 0;
	FILE *list = fd < 0 ? NULL : fdopen(fd, "r");
	long tid;

	if (!list)
		return -errno;
	for (; !error && fscanf(list, "%ld", &tid) == 1; visitor->count++)
		error = visitor->each(visitor->self, (pid_t)tid);
	fclose(list);
	return error;
}

int cgroup_each_thread(const struct cgroup *cgroup, int (*each)(void *self, pid_t tid), void *self)
{
	struct visitor visitor = { each, self, 0 };
	int error = walk(cgroup->directory, list_threads, &visitor);

	return error ? error : visitor.count;
}
