/* The sink's cgroup (v2): its freezer is what holds the processes whenever nobody filters them. */
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
/* Asks for freezing or thawing; the kernel stops each task on its way back to user mode. */
int cgroup_freeze(const struct cgroup *cgroup, bool freeze);
/* True when every task has stopped. */
bool cgroup_is_frozen(const struct cgroup *cgroup);
/* Waits until frozen; false when that takes longer than `milliseconds`. */
bool cgroup_wait_frozen(const struct cgroup *cgroup, int milliseconds);
/* Calls `each` for every thread, numbered as here. Returns how many, or a negative errno. */
int cgroup_each_thread(const struct cgroup *cgroup, int (*each)(void *self, pid_t tid), void *self);
/* True when there are cgroups below, whose tasks nobody would filter. */
bool cgroup_has_children(const struct cgroup *cgroup);

#endif
