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

#define EVICT_NICE 19
/* linux/ioprio.h, which is younger than some hosts: class idle. */
#define IOPRIO_WHO_PROCESS 1
#define IOPRIO_IDLE (3 << 13)

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

void evict(char *const *pids)
{
	struct eviction eviction = {
		.batch = { .advice = MADV_PAGEOUT },
		.pace = begin_pace(),
	};

	/* Nobody waits for this; where the disk's scheduler knows of it, the writes come after everybody's, too. */
	if (nice(EVICT_NICE) == -1 || syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE) < 0)
		errno = 0;
	for (; *pids; pids++)
		evict_process(*pids, &eviction);
	printf("{\"pages\":%" PRIu64 ",\"refused\":%" PRIu64 "}\n", eviction.batch.pages, eviction.batch.refused);
}
