/* The state of the one buffer that this process is. */
#ifndef BUFFER_H
#define BUFFER_H

#include "packet.h"

enum mode { HOLD, PASS, DIVERT };

extern enum mode mode;
extern struct fifo held;
extern struct counters {
	unsigned long folded, released, diverted, too_big, no_memory;
} counters;

#endif
