#define _GNU_SOURCE
#include "evict.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pace.h"
#include "pages.h"
#include "record.h"

#define EVICT_NICE 19
/* linux/ioprio.h, which is younger than some hosts: class idle. */
#define IOPRIO_WHO_PROCESS 1
#define IOPRIO_IDLE (3 << 13)

struct eviction {
	struct batch batch;
	struct pace pace;
	/* Pages that may still go. */
	uint64_t allowed;
	/* What stays, ascending; and the first range of it that may lie ahead. */
	struct ranges kept;
	size_t next_kept;
};

static void give_away(struct range range, void *self)
{
	struct eviction *eviction = self;

	if (range.count > eviction->allowed)
		range.count = eviction->allowed;
	eviction->allowed -= range.count;
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

/* The parts of `range` between those that are kept. */
static void give_away_others(struct range range, void *self)
{
	struct eviction *eviction = self;
	uint64_t end = range.first + range.count;

	for (; range.first < end; eviction->next_kept++) {
		struct range *kept = eviction->kept.own + eviction->next_kept;
		bool is_last = eviction->next_kept == eviction->kept.count;
		uint64_t until = is_last || kept->first > end ? end : kept->first;
		if (until > range.first)
			give_away((struct range){ range.first, until - range.first }, self);
		if (until == end)
			return;
		if (kept->first + kept->count > range.first)
			range.first = kept->first + kept->count;
		/* It may cover what comes next, too. */
		if (range.first >= end)
			return;
	}
}

static bool is_readable(const char *permissions)
{
	return permissions[0] == 'r';
}

static void evict_process(const char *pid, bool (*wanted)(const char *permissions), void (*give)(struct range, void *),
			  struct eviction *eviction)
{
	eviction->batch.pidfd = (int)syscall(SYS_pidfd_open, atoi(pid), 0);
	if (eviction->batch.pidfd < 0)
		return;
	each_present(pid, wanted, give, eviction);
	flush(&eviction->batch);
	close(eviction->batch.pidfd);
}

static struct eviction begin(uint64_t bytes)
{
	/* Nobody waits for this; where the disk's scheduler knows of it, the writes come after everybody's, too. */
	if (nice(EVICT_NICE) == -1 || syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE) < 0)
		errno = 0;
	return (struct eviction){
		.batch = { .advice = MADV_PAGEOUT },
		.pace = begin_pace(),
		.allowed = bytes / page_size,
	};
}

static void report(const struct eviction *eviction)
{
	printf("{\"pages\":%" PRIu64 ",\"refused\":%" PRIu64 "}\n", eviction->batch.pages, eviction->batch.refused);
}

void evict(char *const *pids)
{
	struct eviction eviction = begin(UINT64_MAX);

	for (; *pids; pids++)
		evict_process(*pids, is_readable, give_away, &eviction);
	report(&eviction);
}

void evict_others(const char *path, uint64_t bytes, char *const *pids)
{
	struct eviction eviction = begin(bytes);

	for (; *pids; pids++) {
		eviction.kept = recorded_of(path, *pids);
		eviction.next_kept = 0;
		evict_process(*pids, is_own, give_away_others, &eviction);
		free(eviction.kept.own);
	}
	report(&eviction);
}
