/* The world as a thread sees it: what the rules ask is looked up at its process, its descriptors and its set. */
#ifndef CALLER_H
#define CALLER_H

#include "descriptor.h"
#include "process.h"
#include "rules.h"

struct caller {
	const struct set *set;
	struct descriptors *descriptors;
	struct thread *thread;
	int fd; /* the last descriptor that was asked about, and what it was */
	enum kind kind;
};

/* Lasts as long as `caller`. */
struct world caller_world(struct caller *caller, const struct profile *profile);

#endif
