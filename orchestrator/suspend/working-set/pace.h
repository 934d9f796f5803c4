/*
 * Small pieces, each written before the next one, and between them rests in which processor and disk are the others'. A neighbour's
 * commit is several writes one after the other, and each waits for all that the disk has taken before: so what a piece takes, from the
 * first page to the last one written, chooses the size of the next one and the rest between them. Where others wait for more than before
 * all the same, rests get longer.
 */
#ifndef PACE_H
#define PACE_H

#include <stdint.h>

struct pace {
	uint64_t piece;
	/* When the piece began, and the pages that were on their way to a disk then. */
	double begun_ms;
	uint64_t written_by_others;
	/* As a share of what the piece took. */
	double rest;
	/* What others waited before, as a share; and during the rests since that was last looked at. */
	double usual, stalled_ms, rested_ms;
};

/* Learns how the others fare before the first piece. */
struct pace begin_pace(void);
/* Rests after a piece, and chooses the size of the next one. */
void rest_after_piece(struct pace *pace);

#endif
