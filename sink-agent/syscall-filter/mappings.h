/*
 * Where the processes of the set map files. Read when they are seized: no call that maps a file or moves such a mapping runs in a
 * sink, so that these ranges can only shrink. What seems to touch one is looked up again.
 */
#ifndef MAPPINGS_H
#define MAPPINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct mapping {
	uint64_t start, end;
	bool shared; /* writes reach the file; memory that is shared without a file in the tree is none */
};

struct mappings {
	struct mapping *list;
	size_t count;
};

/* Reads /proc/PID/maps. 0 or a negative errno. */
int mappings_read(struct mappings *mappings, pid_t pid);
void mappings_free(struct mappings *mappings);
/* Whether the range touches a mapping of a file; `shared`: a shared one. Unreadable counts as true. */
bool mappings_touch(const struct mappings *mappings, pid_t pid, uint64_t address, uint64_t length, bool shared);

#endif
