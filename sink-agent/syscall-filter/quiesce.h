/* Brings every thread into a trace stop, and out of tracing again, such that nothing of a call is lost or done twice. */
#ifndef QUIESCE_H
#define QUIESCE_H

#include "filter.h"

/*
 * The next reported stop (`*thread`), or the end of a thread (`*thread` NULL, already forgotten and reported when it
 * was the last of its process). False when there is none.
 */
bool quiesce_next_stop(struct filter *filter, struct thread **thread);
/* Interrupts every running thread and waits until all are stopped. 0, -ETIMEDOUT. */
int quiesce_gather(struct filter *filter, int milliseconds);
/* A stopped thread that is at a call's entry, or was interrupted in one, will run that call anew. 0 or -errno. */
int quiesce_settle(struct thread *thread);
/* Detaches all threads. A signal that waits to end a process stays pending. The cgroup must be (asked to be) frozen. */
void quiesce_detach(struct filter *filter, int milliseconds);

#endif
