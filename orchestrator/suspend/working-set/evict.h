/* Has the processes' memory written to swap, in pieces. */
#ifndef EVICT_H
#define EVICT_H

#include <stdint.h>

/* All of it; libraries and programs that nobody else uses are given up. */
void evict(char *const *pids);
/* Of their own memory what the record at `path` does not have, `bytes` at most. */
void evict_others(const char *path, uint64_t bytes, char *const *pids);

#endif
