/*
 * working-set record FILE PID…     writes which pages of the processes are in memory
 * working-set prefetch FILE PID…   asks the kernel to read those of them that are in swap, all at once
 * working-set evict PID…           asks the kernel to write all of them to swap, in pieces: it may be ended at any moment
 *
 * A VM that wakes faults its pages in one after the other, each fault waiting for the disk; asked for beforehand, they come
 * in large reads while the guest already runs. FILE holds pairs of little-endian 64-bit numbers: (0, PID), then that process's
 * ranges of page numbers (first, count). A process that has ended meanwhile is passed over. Prints one line of JSON. Needs CAP_SYS_PTRACE and CAP_SYS_NICE. See pagemap(5), process_madvise(2).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PRESENT (1ull << 63)
#define SWAPPED (1ull << 62)
#define PAGEMAP_BATCH 65536
#define RANGES_PER_CALL 512

struct range {
	uint64_t first, count;
};

static size_t page_size;

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "working-set: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* -1 when the process has ended. */
static int open_of(const char *pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%.20s/%s", pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT && errno != ESRCH)
		fail(path);
	return fd;
}

/* Calls `visit` for each run of pages in [first, end) whose entry in pagemap has `flag`. */
static void each_run(int pagemap, uint64_t first, uint64_t end, uint64_t flag, void (*visit)(struct range, void *), void *self)
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

struct prefetch {
	int pidfd;
	struct iovec waiting[RANGES_PER_CALL];
	size_t count;
	uint64_t pages, ranges, refused;
};

static void flush(struct prefetch *prefetch)
{
	if (prefetch->count && syscall(SYS_process_madvise, prefetch->pidfd, prefetch->waiting, prefetch->count, MADV_WILLNEED, 0) < 0) {
		/* A mapping of the list is gone: one by one, so that it spoils no others. */
		for (size_t i = 0; i < prefetch->count; i++)
			if (syscall(SYS_process_madvise, prefetch->pidfd, &prefetch->waiting[i], 1, MADV_WILLNEED, 0) < 0)
				prefetch->refused++;
	}
	prefetch->count = 0;
}

static void want(struct range range, void *self)
{
	struct prefetch *prefetch = self;

	prefetch->waiting[prefetch->count++] =
		(struct iovec){ (void *)(uintptr_t)(range.first * page_size), range.count * page_size };
	prefetch->pages += range.count;
	prefetch->ranges++;
	if (prefetch->count == RANGES_PER_CALL)
		flush(prefetch);
}

static bool is_among(uint64_t pid, char *const *pids)
{
	while (*pids && strtoull(*pids, NULL, 10) != pid)
		pids++;
	return *pids != NULL;
}

static void prefetch(const char *path, char *const *pids)
{
	struct prefetch prefetch = { .pidfd = -1 };
	int pagemap = -1;
	FILE *file = fopen(path, "re");
	struct range range;
	struct timespec from, to;

	if (!file)
		fail(path);
	clock_gettime(CLOCK_MONOTONIC, &from);
	while (fread(&range, sizeof(range), 1, file) == 1) {
		if (range.first) {
			if (prefetch.pidfd >= 0 && pagemap >= 0)
				each_run(pagemap, range.first, range.first + range.count, SWAPPED, want, &prefetch);
			continue;
		}
		flush(&prefetch);
		close(prefetch.pidfd);
		close(pagemap);
		char pid[24];
		snprintf(pid, sizeof(pid), "%" PRIu64, range.count);
		bool is_there = is_among(range.count, pids);
		prefetch.pidfd = is_there ? (int)syscall(SYS_pidfd_open, (pid_t)range.count, 0) : -1;
		pagemap = is_there ? open_of(pid, "pagemap") : -1;
	}
	flush(&prefetch);
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("{\"pages\":%" PRIu64 ",\"ranges\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"ms\":%ld}\n", prefetch.pages, prefetch.ranges,
	       prefetch.refused, (to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000);
}

/* A call that reclaims gigabytes could not be ended. */
#define EVICT_BYTES (32ull << 20)
#define BEFORE_MS 50
#define LEAST_REST_MS 4
#define MOST_REST_MS 100
#define STALLED_SHARE 0.1

/* Time in which some task of the host waited for memory or for a disk; stands still without pressure information. */
static uint64_t stalled_us(void)
{
	static const char *const files[] = { "/proc/pressure/memory", "/proc/pressure/io" };
	uint64_t sum = 0, total;

	for (int i = 0; i < 2; i++) {
		FILE *file = fopen(files[i], "re");
		if (file && fscanf(file, "some avg10=%*f avg60=%*f avg300=%*f total=%" SCNu64, &total) == 1)
			sum += total;
		if (file)
			fclose(file);
	}
	return sum;
}

/* Rests, and gives the share of that in which others waited (orchestrator/memory/pace.ts: a call that reclaims waits itself). */
static double rest(unsigned ms)
{
	uint64_t before = stalled_us();
	struct timespec time = { .tv_nsec = ms * 1000000l };

	nanosleep(&time, NULL);
	return (double)(stalled_us() - before) / (ms * 1000.0);
}

/* Of one process; the rest between two pieces goes on from one to the next. */
static uint64_t evict_process(const char *pid, double usual, unsigned *rest_ms)
{
	char line[512], permissions[5];
	uint64_t from, to, refused = 0;
	int pidfd = (int)syscall(SYS_pidfd_open, atoi(pid), 0);
	int maps_fd = open_of(pid, "maps");

	if (pidfd < 0 || maps_fd < 0)
		return 0;
	FILE *maps = fdopen(maps_fd, "r");
	if (!maps)
		fail("maps");
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &from, &to, permissions) != 3 || strncmp(permissions, "rw", 2))
			continue;
		for (; from < to; from += EVICT_BYTES) {
			struct iovec piece = { (void *)(uintptr_t)from, to - from < EVICT_BYTES ? to - from : EVICT_BYTES };
			if (syscall(SYS_process_madvise, pidfd, &piece, 1, MADV_PAGEOUT, 0) < 0)
				refused++;
			*rest_ms = rest(*rest_ms) > usual + STALLED_SHARE ? *rest_ms * 2 : *rest_ms / 2;
			*rest_ms = *rest_ms < LEAST_REST_MS ? LEAST_REST_MS : *rest_ms > MOST_REST_MS ? MOST_REST_MS : *rest_ms;
		}
	}
	fclose(maps);
	close(pidfd);
	return refused;
}

static void evict(char *const *pids)
{
	uint64_t refused = 0;
	unsigned rest_ms = LEAST_REST_MS;
	double usual = rest(BEFORE_MS);

	for (; *pids; pids++)
		refused += evict_process(*pids, usual, &rest_ms);
	printf("{\"refused\":%" PRIu64 "}\n", refused);
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
