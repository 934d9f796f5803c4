/*
 * Small pieces, each written before the next one: a neighbour's own write then never waits for more than one of ours. Where nobody
 * waits for anything they grow, since then it is only a matter of how soon the memory is free.
 */
#ifndef PACE_H
#define PACE_H

#include <stdint.h>

struct pace {
	uint64_t piece;
	unsigned rest_ms;
	/* What others waited before. */
	double usual;
};

/* Learns how the others fare before the first piece. */
struct pace begin_pace(void);
/* Rests after a piece, and chooses the size of the next one. */
void rest_after_piece(struct pace *pace);

#endif
