/*
 * The filter of one sink.
 *
 *   filter_seize ─→ seized ─filter_go─→ running ─trigger, filter_freeze─→ frozen (detached, the cgroup holds)
 *
 * Invariant: whenever a task of the cgroup could run and is not traced by us, the cgroup is frozen.
 */
#ifndef FILTER_H
#define FILTER_H

#include "accept-gate.h"
#include "cgroup.h"
#include "descriptor.h"
#include "process.h"

enum phase { PHASE_SEIZED, PHASE_RUNNING, PHASE_FROZEN };

struct filter {
	struct cgroup *cgroup;
	struct set set;
	struct descriptors descriptors;
	const struct profile *profile; /* what the template allows beyond the rules; NULL: nothing */
	bool accept_triggers; /* a new connection is activity, even though accepting it is not; gated ports aside */
	struct gate_plan gate_plan;
	struct gate *gate; /* NULL: no port is gated */
	int checks; /* answers to connect checks; -1: none */
	int child_events; /* signalfd with SIGCHLD: readable when a thread may have stopped */
	pid_t guardian;
	bool guardian_died;
	struct process ended; /* the last process that ended by itself; pid -1: a thread of a process that lives on */
	enum phase phase;
	int rest_after_ms; /* from `go` on, after which the processes' memory is paged out; -1: never */
	enum rest { REST_NONE, REST_PAGED_OUT, REST_LET_GO } rest; /* how far that is */
};

/* Freezes the cgroup, seizes every thread and waits until all are in a trace stop. Returns 0 or a negative errno. */
int filter_seize(struct filter *filter, const char *external_file);
/* Thaws the cgroup and lets the threads run, each to its next call. */
int filter_go(struct filter *filter);
/* Handles every stop that has been reported; a trigger freezes and detaches everything. */
void filter_handle_stops(struct filter *filter);
/* Takes what came for the gate and from connect checks. */
void filter_handle_connections(struct filter *filter);
/* The next step of paging the processes' memory out: they have come to rest. */
void filter_rest(struct filter *filter);
/* Freezes and detaches. A call that has not begun, or was interrupted, is run again by whoever thaws or restores. 0 or -errno. */
int filter_freeze(struct filter *filter);

#endif
