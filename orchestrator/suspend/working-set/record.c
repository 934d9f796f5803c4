#define _GNU_SOURCE
#include "record.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct recording {
	FILE *file;
	uint64_t pages, ranges;
};

static void write_range(struct range range, void *self)
{
	struct recording *recording = self;

	if (fwrite(&range, sizeof(range), 1, recording->file) != 1)
		fail("write");
	recording->pages += range.count;
	recording->ranges++;
}

bool is_own(const char *permissions)
{
	return !strncmp(permissions, "rw", 2);
}

void record(const char *path, char *const *pids)
{
	char partial[4096];
	struct recording recording = { 0 };

	snprintf(partial, sizeof(partial), "%s.partial", path);
	recording.file = fopen(partial, "we");
	if (!recording.file)
		fail(partial);
	for (; *pids; pids++) {
		struct range owner = { .count = strtoull(*pids, NULL, 10) };
		if (fwrite(&owner, sizeof(owner), 1, recording.file) != 1)
			fail("write");
		each_present(*pids, is_own, write_range, &recording);
	}
	if (fclose(recording.file) || rename(partial, path))
		fail(path);
	printf("{\"pages\":%" PRIu64 ",\"ranges\":%" PRIu64 "}\n", recording.pages, recording.ranges);
}

struct ranges recorded_of(const char *path, const char *pid)
{
	struct ranges found = { 0 };
	struct range range;
	uint64_t wanted = strtoull(pid, NULL, 10);
	size_t room = 0;
	bool is_wanted = false;
	FILE *file = fopen(path, "re");

	if (!file)
		fail(path);
	while (fread(&range, sizeof(range), 1, file) == 1) {
		if (!range.first) {
			is_wanted = range.count == wanted;
			continue;
		}
		if (!is_wanted)
			continue;
		if (found.count == room) {
			room = room ? 2 * room : 1024;
			found.own = realloc(found.own, room * sizeof(*found.own));
			if (!found.own)
				fail("realloc");
		}
		found.own[found.count++] = range;
	}
	fclose(file);
	return found;
}
