#include "pace.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define PIECE_STEP_BYTES (256ull << 10)
#define LEAST_PIECE_BYTES (4 * PIECE_STEP_BYTES)
/* What a neighbour's write may wait for ours, and it makes several: its data, its inode, the disk's cache. */
#define PIECE_MS 1.5
/* Of a piece's time, so that it holds on a slow disk as on a fast one. */
#define LEAST_REST 0.75
#define MOST_REST 8
#define MOST_REST_MS 100
/* A look at the others takes so long, or a single request of theirs is all of it. */
#define LOOK_MS 20
#define BEFORE_MS 100
#define STALLED_SHARE 0.1
/* Each processor counts for itself up to so many pages, 125 at most, before /proc/vmstat has them. */
#define UNCOUNTED_PAGES 64
#define WRITTEN_MS 100

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

static void pause_ms(double ms)
{
	struct timespec time = { .tv_nsec = (long)(ms * 1e6) };

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

static void begin_piece(struct pace *pace)
{
	pace->written_by_others = writing_pages();
	pace->begun_ms = now_ms();
}

/* Ends when no more is on its way to a disk than before the piece. */
static double took_until_written(const struct pace *pace)
{
	double from = now_ms();

	while (writing_pages() > pace->written_by_others + UNCOUNTED_PAGES && now_ms() - from < WRITTEN_MS)
		pause_ms(0.1);
	return now_ms() - pace->begun_ms;
}

/* Whoever waits meanwhile is not us. */
static void rest(struct pace *pace, double ms)
{
	uint64_t before = stalled_us();
	double from = now_ms();

	pause_ms(ms > MOST_REST_MS ? MOST_REST_MS : ms);
	pace->stalled_ms += (double)(stalled_us() - before) / 1000;
	pace->rested_ms += now_ms() - from;
}

static double share_of_look(struct pace *pace)
{
	double share = pace->stalled_ms / pace->rested_ms;

	pace->stalled_ms = pace->rested_ms = 0;
	return share;
}

struct pace begin_pace(void)
{
	struct pace pace = { .piece = LEAST_PIECE_BYTES, .rest = LEAST_REST };

	rest(&pace, BEFORE_MS);
	pace.usual = share_of_look(&pace);
	begin_piece(&pace);
	return pace;
}

static void choose_piece(struct pace *pace, double took_ms)
{
	if (took_ms < PIECE_MS)
		pace->piece += PIECE_STEP_BYTES;
	else if (took_ms > 2 * PIECE_MS)
		pace->piece = pace->piece < 2 * LEAST_PIECE_BYTES ? LEAST_PIECE_BYTES : pace->piece / 2 / PIECE_STEP_BYTES * PIECE_STEP_BYTES;
}

static void choose_rest(struct pace *pace)
{
	if (share_of_look(pace) > pace->usual + STALLED_SHARE)
		pace->rest = pace->rest * 2 > MOST_REST ? MOST_REST : pace->rest * 2;
	else
		pace->rest = pace->rest / 2 < LEAST_REST ? LEAST_REST : pace->rest / 2;
}

void rest_after_piece(struct pace *pace)
{
	double took_ms = took_until_written(pace);

	choose_piece(pace, took_ms);
	rest(pace, took_ms * pace->rest);
	if (pace->rested_ms >= LOOK_MS)
		choose_rest(pace);
	begin_piece(pace);
}
