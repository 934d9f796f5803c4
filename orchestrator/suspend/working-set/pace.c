#include "pace.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define LEAST_PIECE_BYTES (1ull << 20)
#define MOST_PIECE_BYTES (32ull << 20)
#define LEAST_REST_MS 2
#define MOST_REST_MS 100
#define BEFORE_MS 100
#define STALLED_SHARE 0.1
#define WRITING_PAGES 64
#define WRITTEN_MS 200

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

struct pace begin_pace(void)
{
	return (struct pace){ LEAST_PIECE_BYTES, LEAST_REST_MS, rest(BEFORE_MS) };
}

void rest_after_piece(struct pace *pace)
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
