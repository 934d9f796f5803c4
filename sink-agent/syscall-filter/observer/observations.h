/* What was seen that would have woken the VM, folded: one entry per program, call and path, however often it comes. */
#ifndef OBSERVATIONS_H
#define OBSERVATIONS_H

#include "../rules.h"

struct observations;

struct observation {
	const char *program, *call, *path, *effect; /* as profile_effect says; path "" and effect NULL when there is none */
	const char *detail; /* an example with its arguments */
	enum rule_id rule;
	int pid;
};

struct observations *observations_new(void);
/* Counts it; beyond some thousand different ones they are only counted together. */
void observations_note(struct observations *observations, const struct observation *observation, long milliseconds);
/* Prints a JSON line for each. */
void observations_print(const struct observations *observations);

#endif
