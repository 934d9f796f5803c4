/*
 * Which pages of processes were in memory at a time. The file holds pairs of little-endian 64-bit numbers: (0, PID), then that process's
 * ranges of page numbers (first, count), ascending.
 */
#ifndef RECORD_H
#define RECORD_H

#include <stdbool.h>

#include "pages.h"

struct ranges {
	struct range *own;
	size_t count;
};

/* The mapping's permissions of /proc/PID/maps: memory of the process's own is recorded, files are read by the page cache's own means. */
bool is_own(const char *permissions);
void record(const char *path, char *const *pids);
/* None for a process that the file does not have. */
struct ranges recorded_of(const char *path, const char *pid);

#endif
