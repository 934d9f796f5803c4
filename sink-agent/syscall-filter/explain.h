/*
 * --decide: tries the rules without a process. Each line of input is a call and the world round it:
 *   NAME|NUMBER|foreign [ARGUMENT …] [FD=KIND …] [pid=N] [set=N …] [readable=FD …] [memory=ADDRESS:HEX …]
 *   [maps=START-END …] [maps-shared=START-END …] [program=NAME] [path:FD=PATH …] (FD -100: the working directory)
 * with numbers as in C. Each line of output: {"rule":"descriptor.inside","allowed":true,"fd":3}
 */
#ifndef EXPLAIN_H
#define EXPLAIN_H

#include "rules.h"

#include <stdio.h>

/* Returns the exit status. */
int explain_decisions(FILE *input, const struct profile *profile);

#endif
