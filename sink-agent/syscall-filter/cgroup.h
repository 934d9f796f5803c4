/*
 * The sink's cgroup (v2) and those below it (one per process tree, say): its freezer is what holds the processes
 * whenever nobody filters them.
 */
#ifndef CGROUP_H
#define CGROUP_H

#include <stdbool.h>
#include <sys/types.h>

struct cgroup {
	int directory;
	int freeze; /* cgroup.freeze, open for writing, so that freezing needs no memory and no path */
	int events; /* cgroup.events */
};

/* Opens the cgroup at `path`. Returns 0 or a negative errno. */
int cgroup_open(struct cgroup *cgroup, const char *path);
/* Asks for freezing, of those below too; the kernel stops each task on its way back to user mode. One write. */
int cgroup_freeze(const struct cgroup *cgroup);
/* Thaws it and those below, which may have been frozen one by one. */
int cgroup_thaw(const struct cgroup *cgroup);
/* True when every task has stopped. */
bool cgroup_is_frozen(const struct cgroup *cgroup);
/* Waits until frozen; false when that takes longer than `milliseconds`. */
bool cgroup_wait_frozen(const struct cgroup *cgroup, int milliseconds);
/* Calls `each` for every thread in it and below, numbered as here. Returns how many, or a negative errno. */
int cgroup_each_thread(const struct cgroup *cgroup, int (*each)(void *self, pid_t tid), void *self);

#endif
