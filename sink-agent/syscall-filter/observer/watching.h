/*
 * Processes watched where they live: seized without a signal, each call judged at its entry and then made, let go without a trace.
 *   watching_begin → … watching_handle_stops … → watching_end
 */
#ifndef WATCHING_H
#define WATCHING_H

#include <stddef.h>

struct profile;
struct watching;

/* @param pids numbers with commas between them. NULL with errno set when none can be watched. */
struct watching *watching_begin(char *pids, const struct profile *profile);
size_t watching_tasks(const struct watching *watching);
/* Since the beginning. */
long watching_milliseconds(const struct watching *watching);
/* Handles every stop that has been reported. */
void watching_handle_stops(struct watching *watching);
void watching_print_kinds(struct watching *watching);
/* Lets go of all and prints what was seen. @param child_events readable when a stop may be waiting. The exit status. */
int watching_end(struct watching *watching, int child_events);

#endif
