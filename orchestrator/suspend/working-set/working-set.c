/*
 * working-set record FILE PID…     writes which pages of the processes are in memory
 * working-set prefetch FILE PID…   asks the kernel to read those of them that are in swap, all at once
 * working-set evict PID…           asks the kernel to write all of them to swap
 * working-set evict-others FILE BYTES PID…   so many at most, and only what was not recorded
 *
 * A VM that wakes faults its pages in one after the other, each fault waiting for the disk; asked for beforehand, they come
 * in large reads while the guest already runs. What evicts works in pieces, and may be ended at any moment.
 * A process that has ended meanwhile is passed over. Prints one line of JSON. Needs CAP_SYS_PTRACE and CAP_SYS_NICE. See pagemap(5), process_madvise(2).
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "evict.h"
#include "pages.h"
#include "record.h"

static void want(struct range range, void *self)
{
	add(self, range);
}

static void prefetch(const char *path, char *const *pids)
{
	uint64_t pages = 0, ranges = 0, refused = 0;
	struct timespec from, to;

	clock_gettime(CLOCK_MONOTONIC, &from);
	for (; *pids; pids++) {
		struct ranges recorded = recorded_of(path, *pids);
		struct batch batch = { .pidfd = (int)syscall(SYS_pidfd_open, atoi(*pids), 0), .advice = MADV_WILLNEED };
		int pagemap = open_of(*pids, "pagemap");
		for (size_t i = 0; i < recorded.count && batch.pidfd >= 0 && pagemap >= 0; i++) {
			struct range range = recorded.own[i];
			each_run(pagemap, range.first, range.first + range.count, SWAPPED, want, &batch);
		}
		flush(&batch);
		pages += batch.pages;
		ranges += batch.ranges;
		refused += batch.refused;
		close(batch.pidfd);
		close(pagemap);
		free(recorded.own);
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("{\"pages\":%" PRIu64 ",\"ranges\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"ms\":%ld}\n", pages, ranges, refused,
	       (to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000);
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
	else if (argc >= 5 && !strcmp(argv[1], "evict-others"))
		evict_others(argv[2], strtoull(argv[3], NULL, 10), argv + 4);
	else {
		fputs("usage: working-set record|prefetch FILE PID... | evict PID... | evict-others FILE BYTES PID...\n", stderr);
		return 2;
	}
	return 0;
}
