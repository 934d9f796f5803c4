#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pages.h"

#define PAGEMAP_BATCH 65536

size_t page_size;

_Noreturn void fail(const char *what)
{
	fprintf(stderr, "working-set: %s: %s\n", what, strerror(errno));
	exit(1);
}

int open_of(const char *pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%.20s/%s", pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT && errno != ESRCH)
		fail(path);
	return fd;
}

void each_run(int pagemap, uint64_t first, uint64_t end, uint64_t flag, void (*visit)(struct range, void *), void *self)
{
	static uint64_t entries[PAGEMAP_BATCH];
	struct range run = { first, 0 };

	while (first < end) {
		size_t wanted = end - first < PAGEMAP_BATCH ? end - first : PAGEMAP_BATCH;
		ssize_t got = pread(pagemap, entries, wanted * sizeof(*entries), (off_t)(first * sizeof(*entries)));
		if (got <= 0)
			break;
		for (size_t i = 0; i < (size_t)got / sizeof(*entries); i++, first++) {
			if (!(entries[i] & flag))
				continue;
			if (run.count && run.first + run.count == first) {
				run.count++;
				continue;
			}
			if (run.count)
				visit(run, self);
			run = (struct range){ first, 1 };
		}
	}
	if (run.count)
		visit(run, self);
}

void each_present(const char *pid, bool (*wanted)(const char *permissions), void (*visit)(struct range, void *), void *self)
{
	char line[512], permissions[5];
	uint64_t from, to;
	int pagemap = open_of(pid, "pagemap");
	int maps_fd = open_of(pid, "maps");

	if (pagemap < 0 || maps_fd < 0)
		return;
	FILE *maps = fdopen(maps_fd, "r");
	if (!maps)
		fail("maps");
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &from, &to, permissions) == 3 && wanted(permissions))
			each_run(pagemap, from / page_size, to / page_size, PRESENT, visit, self);
	fclose(maps);
	close(pagemap);
}

void flush(struct batch *batch)
{
	struct iovec *next = batch->waiting, *end = next + batch->count;

	while (next < end) {
		/* At most 2 GiB a call, and it ends at a range whose mapping is gone or can't be advised on: that one is passed over. */
		ssize_t done = syscall(SYS_process_madvise, batch->pidfd, next, (size_t)(end - next), batch->advice, 0);
		if (done < 0 && (errno == ENOSYS || errno == EPERM))
			fail("process_madvise");
		if (done <= 0) {
			batch->refused++;
			next++;
			continue;
		}
		for (; next < end && (size_t)done >= next->iov_len; next++)
			done -= (ssize_t)next->iov_len;
		if (done > 0) {
			next->iov_base = (char *)next->iov_base + done;
			next->iov_len -= (size_t)done;
		}
	}
	batch->count = 0;
	batch->bytes = 0;
}

void add(struct batch *batch, struct range range)
{
	batch->waiting[batch->count++] = (struct iovec){ (void *)(uintptr_t)(range.first * page_size), range.count * page_size };
	batch->bytes += range.count * page_size;
	batch->pages += range.count;
	batch->ranges++;
	if (batch->count == RANGES_PER_CALL)
		flush(batch);
}
