/*
 * The filter's wait for a stop, in waitid(): by poll() and a signalfd of SIGCHLD it is a longer way through the kernel, which costs most where it is
 * taken seldom, hence with cold caches: at each call of an idle program (bench/syscall-cost). waitid() waits for children alone, so that all else has to
 * say by a signal that it is there. These signals are blocked but while it waits, and break the wait off; none is lost in between.
 */
#ifndef WAITING_H
#define WAITING_H

#include <stdbool.h>

/* Blocks the signals that break the wait off, those that tell to end among them. */
void waiting_open(void);
/* From now on `fd` says by a signal that something has come; not what was there before. 0 or -errno. */
int waiting_watch(int fd);
/*
 * Until a tracee has stopped or a child has ended, which stays to be taken by waitpid(): true. False: anything else may have come, or so many
 * milliseconds are over (-1: no matter).
 */
bool waiting_for_stop(int milliseconds);
/* SIGTERM, SIGINT or SIGHUP has come. */
bool waiting_told_to_end(void);

#endif
