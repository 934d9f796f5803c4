/*
 * One CPU for the filter and all that it filters. At each stop one wakes the other; from CPU to CPU that takes an interrupt, and leaving idle
 * on one that is: 120 to 230 µs a call on a quiet machine, 25 to 30 on one CPU (bench/syscall-cost). What it filters is idle, and needs no second one.
 * CRIU does not carry a thread's CPUs, so that at home it has all again.
 */
#ifndef AFFINITY_H
#define AFFINITY_H

#include <sched.h>
#include <sys/types.h>

/* Chooses one of the caller's CPUs, another one for each filter, and stays there. Zero CPUs in `chosen` when it can't. */
void affinity_choose(cpu_set_t *chosen);
/* Puts `tid` there too; where that fails, it only takes longer. */
void affinity_share(pid_t tid, const cpu_set_t *chosen);

#endif
