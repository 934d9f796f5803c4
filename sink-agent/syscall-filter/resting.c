#define _GNU_SOURCE
#include "resting.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Bits of /proc/PID/pagemap. */
#define PRESENT (1ull << 63)
#define SWAPPED (1ull << 62)
#define OF_A_FILE (1ull << 61)
#define EXCLUSIVE (1ull << 56)

#define BATCH 512
#define RANGES 256

enum want { OUT, LET_GO, IN };

struct advice {
	const struct process *process;
	int pidfd;
	enum want want;
	size_t page_size, count;
	struct iovec ranges[RANGES];
};

/* Reads a byte of each page, which maps it. */
static void touch(const struct advice *advice)
{
	char bytes[RANGES];

	for (size_t i = 0; i < advice->count; i++) {
		char *at = advice->ranges[i].iov_base;
		for (size_t left = advice->ranges[i].iov_len / advice->page_size; left > 0;) {
			struct iovec there[RANGES], here = { bytes, left < RANGES ? left : RANGES };
			for (size_t page = 0; page < here.iov_len; page++, at += advice->page_size)
				there[page] = (struct iovec){ at, 1 };
			if (process_vm_readv(advice->process->pid, &here, 1, there, here.iov_len, 0) < 0)
				break; /* gone; the advice is refused as well */
			left -= here.iov_len;
		}
	}
}

static void flush(struct advice *advice)
{
	int kind = advice->want == IN ? MADV_WILLNEED : MADV_PAGEOUT;

	if (advice->want == LET_GO)
		touch(advice);
	/* Refused for a mapping that is gone, or of a kind that can't be paged out: that is all there is to it. */
	if (advice->count)
		(void)syscall(SYS_process_madvise, advice->pidfd, advice->ranges, advice->count, kind, 0);
	advice->count = 0;
}

static bool is_meant(const struct advice *advice, uint64_t entry)
{
	if (advice->want != OUT)
		return entry & SWAPPED;
	return (entry & PRESENT) && (entry & EXCLUSIVE) && !(entry & OF_A_FILE);
}

static void add(struct advice *advice, uint64_t page)
{
	char *at = (char *)(uintptr_t)(page * advice->page_size);
	struct iovec *last = advice->count ? &advice->ranges[advice->count - 1] : NULL;

	if (last && (char *)last->iov_base + last->iov_len == at) {
		last->iov_len += advice->page_size;
		return;
	}
	if (advice->count == RANGES)
		flush(advice);
	advice->ranges[advice->count++] = (struct iovec){ at, advice->page_size };
}

static void advise_mapping(struct advice *advice, int pagemap, uint64_t from, uint64_t to)
{
	uint64_t entries[BATCH];

	for (uint64_t page = from / advice->page_size, end = to / advice->page_size; page < end;) {
		size_t wanted = end - page < BATCH ? end - page : BATCH;
		ssize_t got = pread(pagemap, entries, wanted * sizeof(*entries), (off_t)(page * sizeof(*entries)));
		if (got < (ssize_t)sizeof(*entries))
			return;
		for (size_t i = 0; i < (size_t)got / sizeof(*entries); i++, page++)
			if (is_meant(advice, entries[i]))
				add(advice, page);
	}
	/* A range over two mappings would be refused as a whole where one of them is. */
	flush(advice);
}

static void advise(const struct process *process, enum want want)
{
	struct advice advice = { .process = process, .pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0), .want = want,
		.page_size = (size_t)sysconf(_SC_PAGESIZE) };
	char path[64], line[512], permissions[5];
	uint64_t from, to;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", process->pid);
	int pagemap = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/maps", process->pid);
	FILE *maps = fopen(path, "re");
	while (pagemap >= 0 && maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &from, &to, permissions) == 3 && permissions[3] == 'p')
			advise_mapping(&advice, pagemap, from, to);
	if (maps)
		fclose(maps);
	if (pagemap >= 0)
		close(pagemap);
	if (advice.pidfd >= 0)
		close(advice.pidfd);
}

/*
 * In a process of its own, since a disk that is busy makes any of this wait, and nothing may wait for the tracer meanwhile. It is nobody's
 * child: the tracer's children are its tracees and the guardian.
 */
static void advise_all(const struct set *set, enum want want)
{
	pid_t child = fork();

	if (child > 0)
		waitpid(child, NULL, __WALL);
	if (child != 0)
		return;
	/* Above all the pipe by which the guardian knows that the tracer lives; and those whose end the agent waits for. */
	if (close_range(0, ~0u, 0))
		_exit(1);
	if (fork() == 0) {
		prctl(PR_SET_NAME, "filter-resting");
		for (const struct process *process = set->processes; process; process = process->next)
			advise(process, want);
	}
	_exit(0);
}

void resting_page_out(const struct set *set)
{
	advise_all(set, OUT);
}

void resting_let_go(const struct set *set)
{
	advise_all(set, LET_GO);
}

void resting_page_in(const struct set *set)
{
	advise_all(set, IN);
}
