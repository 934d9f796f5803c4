/* Runs of a process's pages, and advice to the kernel on many of them at once. */
#ifndef PAGES_H
#define PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Of pagemap(5). */
#define PRESENT (1ull << 63)
#define SWAPPED (1ull << 62)
#define RANGES_PER_CALL 512

struct range {
	uint64_t first, count;
};

/* Ranges of one process that wait for the same advice. */
struct batch {
	int pidfd, advice;
	struct iovec waiting[RANGES_PER_CALL];
	size_t count;
	uint64_t bytes, pages, ranges, refused;
};

extern size_t page_size;

_Noreturn void fail(const char *what);
/* A file below /proc/PID; -1 when the process has ended. */
int open_of(const char *pid, const char *name);
/* Calls `visit` for each run of pages in [first, end) whose entry in pagemap has `flag`. */
void each_run(int pagemap, uint64_t first, uint64_t end, uint64_t flag, void (*visit)(struct range, void *), void *self);
/* The same for what is in memory of the mappings whose permissions in /proc/PID/maps are `wanted`; nothing when the process has ended. */
void each_present(const char *pid, bool (*wanted)(const char *permissions), void (*visit)(struct range, void *), void *self);
/* Flushes by itself when the batch is full. */
void add(struct batch *batch, struct range range);
void flush(struct batch *batch);

#endif
