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

/* Ranges of one process that wait for the same advice. */
struct batch {
	int pidfd, advice;
	struct iovec waiting[RANGES_PER_CALL];
	size_t count;
	uint64_t bytes, pages, ranges, refused;
};

static void flush(struct batch *batch)
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

static void add(struct batch *batch, struct range range)
{
	batch->waiting[batch->count++] = (struct iovec){ (void *)(uintptr_t)(range.first * page_size), range.count * page_size };
	batch->bytes += range.count * page_size;
	batch->pages += range.count;
	batch->ranges++;
	if (batch->count == RANGES_PER_CALL)
		flush(batch);
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

/*
 * Small pieces, each written before the next one: a neighbour's own write then never waits for more than one of ours. Where nobody
 * waits for anything they grow, since then it is only a matter of how soon the memory is free.
 */
#define LEAST_PIECE_BYTES (1ull << 20)
#define MOST_PIECE_BYTES (32ull << 20)
#define LEAST_REST_MS 2
#define MOST_REST_MS 100
#define BEFORE_MS 100
#define STALLED_SHARE 0.1
#define WRITING_PAGES 64
#define WRITTEN_MS 200
#define EVICT_NICE 19
/* linux/ioprio.h, which is younger than some hosts: class idle. */
#define IOPRIO_WHO_PROCESS 1
#define IOPRIO_IDLE (3 << 13)

struct pace {
	uint64_t piece;
	unsigned rest_ms;
	/* What others waited before. */
	double usual;
};

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

static void pause_ms(unsigned ms)
{
	struct timespec time = { .tv_nsec = ms * 1000000l };

	nanosleep(&time, NULL);
}

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000.0 + now.tv_nsec / 1e6;
}

/* Pages on their way to a disk, anybody's. */
static uint64_t writing_pages(void)
{
	char line[128];
	uint64_t pages = 0;
	FILE *file = fopen("/proc/vmstat", "re");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "nr_writeback %" SCNu64, &pages) == 1)
			break;
	if (file)
		fclose(file);
	return pages;
}

/* Rests until what was given away is written, and gives the share of that in which others waited (see orchestrator/memory/pace.ts). */
static double rest(unsigned ms)
{
	uint64_t before = stalled_us();
	double from = now_ms();

	pause_ms(ms);
	while (writing_pages() > WRITING_PAGES && now_ms() - from < WRITTEN_MS)
		pause_ms(1);
	return (double)(stalled_us() - before) / 1000 / (now_ms() - from);
}

static void rest_after_piece(struct pace *pace)
{
	double share = rest(pace->rest_ms);

	if (share > pace->usual + STALLED_SHARE) {
		pace->piece = pace->piece / 2 < LEAST_PIECE_BYTES ? LEAST_PIECE_BYTES : pace->piece / 2;
		pace->rest_ms = pace->rest_ms * 2 > MOST_REST_MS ? MOST_REST_MS : pace->rest_ms * 2;
	} else {
		pace->rest_ms = pace->rest_ms / 2 < LEAST_REST_MS ? LEAST_REST_MS : pace->rest_ms / 2;
		if (share < STALLED_SHARE && pace->piece < MOST_PIECE_BYTES)
			pace->piece += LEAST_PIECE_BYTES;
	}
}

struct eviction {
	struct batch batch;
	struct pace pace;
};

static void give_away(struct range range, void *self)
{
	struct eviction *eviction = self;

	while (range.count > 0) {
		uint64_t room = (eviction->pace.piece - eviction->batch.bytes) / page_size;
		struct range piece = { range.first, range.count < room ? range.count : room };
		add(&eviction->batch, piece);
		range.first += piece.count;
		range.count -= piece.count;
		if (eviction->batch.bytes >= eviction->pace.piece)
			flush(&eviction->batch);
		if (eviction->batch.count == 0)
			rest_after_piece(&eviction->pace);
	}
}

static void evict_process(const char *pid, struct eviction *eviction)
{
	char line[512], permissions[5];
	uint64_t from, to;
	int pagemap = open_of(pid, "pagemap");
	int maps_fd = open_of(pid, "maps");

	eviction->batch.pidfd = (int)syscall(SYS_pidfd_open, atoi(pid), 0);
	if (eviction->batch.pidfd < 0 || pagemap < 0 || maps_fd < 0)
		return;
	FILE *maps = fdopen(maps_fd, "r");
	if (!maps)
		fail("maps");
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &from, &to, permissions) == 3 && permissions[0] == 'r')
			each_run(pagemap, from / page_size, to / page_size, PRESENT, give_away, eviction);
	flush(&eviction->batch);
	fclose(maps);
	close(pagemap);
	close(eviction->batch.pidfd);
}

static void evict(char *const *pids)
{
	struct eviction eviction = {
		.batch = { .advice = MADV_PAGEOUT },
		.pace = { LEAST_PIECE_BYTES, LEAST_REST_MS, rest(BEFORE_MS) },
	};

	/* Nobody waits for this; where the disk's scheduler knows of it, the writes come after everybody's, too. */
	if (nice(EVICT_NICE) == -1 || syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE) < 0)
		errno = 0;
	for (; *pids; pids++)
		evict_process(*pids, &eviction);
	printf("{\"pages\":%" PRIu64 ",\"refused\":%" PRIu64 "}\n", eviction.batch.pages, eviction.batch.refused);
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
