/* Has all of the processes' memory written to swap, libraries and programs that nobody else uses given up. */
#ifndef EVICT_H
#define EVICT_H

void evict(char *const *pids);

#endif
