/*
 * working-set record FILE PID…     writes which pages of the processes are in memory
 * working-set prefetch FILE PID…   asks the kernel to read those of them that are in swap, all at once
 * working-set evict PID…           asks the kernel to write all of them to swap, in pieces: it may be ended at any moment
 *
 * A VM that wakes faults its pages in one after the other, each fault waiting for the disk; asked for beforehand, they come
 * in large reads while the guest already runs. FILE holds pairs of little-endian 64-bit numbers: (0, PID), then that process's
 * ranges of page numbers (first, count).
 * A process that has ended meanwhile is passed over. Prints one line of JSON. Needs CAP_SYS_PTRACE and CAP_SYS_NICE. See pagemap(5), process_madvise(2).
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "evict.h"
#include "pages.h"

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

/* Private memory that can be written: the guest's, and QEMU's own. Files are read by the page cache's own means. */
static void record_process(const char *pid, struct recording *recording)
{
	char line[512], permissions[5];
	struct range owner = { .count = strtoull(pid, NULL, 10) };
	uint64_t from, to;
	int pagemap = open_of(pid, "pagemap");
	int maps_fd = open_of(pid, "maps");

	if (pagemap < 0 || maps_fd < 0)
		return;
	FILE *maps = fdopen(maps_fd, "r");
	if (!maps || fwrite(&owner, sizeof(owner), 1, recording->file) != 1)
		fail("write");
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &from, &to, permissions) == 3 && !strncmp(permissions, "rw", 2))
			each_run(pagemap, from / page_size, to / page_size, PRESENT, write_range, recording);
	fclose(maps);
	close(pagemap);
}

static void record(const char *path, char *const *pids)
{
	char partial[4096];
	struct recording recording = { 0 };

	snprintf(partial, sizeof(partial), "%s.partial", path);
	recording.file = fopen(partial, "we");
	if (!recording.file)
		fail(partial);
	for (; *pids; pids++)
		record_process(*pids, &recording);
	if (fclose(recording.file) || rename(partial, path))
		fail(path);
	printf("{\"pages\":%" PRIu64 ",\"ranges\":%" PRIu64 "}\n", recording.pages, recording.ranges);
}

static void want(struct range range, void *self)
{
	add(self, range);
}

static bool is_among(uint64_t pid, char *const *pids)
{
	while (*pids && strtoull(*pids, NULL, 10) != pid)
		pids++;
	return *pids != NULL;
}

static void prefetch(const char *path, char *const *pids)
{
	struct batch batch = { .pidfd = -1, .advice = MADV_WILLNEED };
	int pagemap = -1;
	FILE *file = fopen(path, "re");
	struct range range;
	struct timespec from, to;

	if (!file)
		fail(path);
	clock_gettime(CLOCK_MONOTONIC, &from);
	while (fread(&range, sizeof(range), 1, file) == 1) {
		if (range.first) {
			if (batch.pidfd >= 0 && pagemap >= 0)
				each_run(pagemap, range.first, range.first + range.count, SWAPPED, want, &batch);
			continue;
		}
		flush(&batch);
		close(batch.pidfd);
		close(pagemap);
		char pid[24];
		snprintf(pid, sizeof(pid), "%" PRIu64, range.count);
		bool is_there = is_among(range.count, pids);
		batch.pidfd = is_there ? (int)syscall(SYS_pidfd_open, (pid_t)range.count, 0) : -1;
		pagemap = is_there ? open_of(pid, "pagemap") : -1;
	}
	flush(&batch);
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("{\"pages\":%" PRIu64 ",\"ranges\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"ms\":%ld}\n", batch.pages, batch.ranges,
	       batch.refused, (to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000);
}

int main(int argc, char **argv)
{
	page_size = (size_t)sysconf(_SC_PAGESIZE);
	if (argc >= 4 && !strcmp(argv[1], "record"))
		record(argv[2], argv + 3);
	else if (argc >= 4 && !strcmp(argv[1], "prefetch"))
		prefetch(argv[2], argv + 3);
	else if (argc >= 3 && !strcmp(argv[1], "evict"))
		evict(argv + 2);
	else {
		fputs("usage: working-set record|prefetch FILE PID... | evict PID...\n", stderr);
		return 2;
	}
	return 0;
}
