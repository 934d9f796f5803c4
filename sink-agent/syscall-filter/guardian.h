/*
 * A second process that freezes the sink the moment the tracer dies. When a tracer is killed, the kernel lets its
 * tracees go on, unfiltered; the guardian's pipe breaks a little before that (files are closed before tracees are let go).
 * See README.md for the window that is left.
 */
#ifndef GUARDIAN_H
#define GUARDIAN_H

#include "cgroup.h"

struct guardian {
	pid_t pid;
	int alive; /* our end of the pipe; breaks with us */
};

/* Forks the guardian; call before any other thread or tracee exists. Returns 0 or a negative errno. */
int guardian_start(struct guardian *guardian, const struct cgroup *cgroup);
/* Sends it home: the sink is frozen, or was never ours. */
void guardian_dismiss(struct guardian *guardian);

#endif
