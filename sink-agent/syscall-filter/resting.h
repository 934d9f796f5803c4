/*
 * The memory of processes that wait: written to swap when they have come to rest, asked back as soon as they are stopped for the
 * way back, all at once. Only what a process has for itself: what it shares with others (files, pages of its parent) stays. Without swap
 * nothing happens. Each call begins that and returns.
 */
#ifndef RESTING_H
#define RESTING_H

#include "process.h"

/* Asks the kernel to write what is in memory to swap. Processes go on; what they touch comes back by itself. */
void resting_page_out(const struct set *set);
/*
 * To be called when that has been written: what is on its way to a disk stays in memory meanwhile, and afterwards until somebody
 * is short of it. Maps it again and lets go of it, which writes nothing.
 */
void resting_let_go(const struct set *set);
/* Asks the kernel to read what is in swap; does not wait for it. */
void resting_page_in(const struct set *set);

#endif
