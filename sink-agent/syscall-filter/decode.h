/* Shows a call with its arguments, for the operator: `openat(AT_FDCWD, "/var/log/lastlog", O_RDWR)`. */
#ifndef DECODE_H
#define DECODE_H

#include "rules.h"

/* `native` as in decide(). Unreadable memory is shown as an address. */
void decode_call(const struct world *world, bool native, uint64_t nr, const uint64_t *args, char *text, size_t size);

#endif
