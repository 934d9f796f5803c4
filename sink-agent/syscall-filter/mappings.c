#define _GNU_SOURCE
#include "mappings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Shared memory that has no name in the file tree: CRIU carries it whole. */
static bool is_memory(const char *path)
{
	return !strncmp(path, "/dev/zero (deleted)", strlen("/dev/zero (deleted)")) || !strncmp(path, "/memfd:", strlen("/memfd:")) ||
	       !strncmp(path, "/SYSV", strlen("/SYSV")) || !strncmp(path, "anon_inode:", strlen("anon_inode:"));
}

int mappings_read(struct mappings *mappings, pid_t pid)
{
	char name[32], line[512];

	*mappings = (struct mappings){ NULL, 0 };
	snprintf(name, sizeof(name), "/proc/%d/maps", pid);
	FILE *file = fopen(name, "re");
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		unsigned long long start, end, inode;
		char flags[8], path[16] = "";
		int at = 0;
		bool whole = strchr(line, '\n');
		if (sscanf(line, "%llx-%llx %7s %*s %*s %llu %n%15s", &start, &end, flags, &inode, &at, path) >= 4 && inode != 0 &&
		    !is_memory(line + at)) {
			struct mapping *grown = reallocarray(mappings->list, mappings->count + 1, sizeof(*grown));
			if (!grown) {
				fclose(file);
				return -ENOMEM;
			}
			mappings->list = grown;
			grown[mappings->count++] = (struct mapping){ start, end, flags[3] == 's' };
		}
		for (int c = 0; !whole && c != '\n' && c != EOF;)
			c = fgetc(file);
	}
	fclose(file);
	return 0;
}

void mappings_free(struct mappings *mappings)
{
	free(mappings->list);
	*mappings = (struct mappings){ NULL, 0 };
}

static bool touches(const struct mappings *mappings, uint64_t address, uint64_t length, bool shared)
{
	for (size_t i = 0; i < mappings->count; i++) {
		const struct mapping *mapping = &mappings->list[i];
		/* Overflow: a length beyond the address space reaches everything behind the address. */
		bool reaches = address + length < address || address + length > mapping->start;
		if (address < mapping->end && reaches && (mapping->shared || !shared))
			return true;
	}
	return false;
}

bool mappings_touch(const struct mappings *mappings, pid_t pid, uint64_t address, uint64_t length, bool shared)
{
	struct mappings now;

	if (!touches(mappings, address, length, shared))
		return false;
	if (mappings_read(&now, pid))
		return true;
	bool answer = touches(&now, address, length, shared);
	mappings_free(&now);
	return answer;
}
