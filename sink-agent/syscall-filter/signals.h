#ifndef SIGNALS_H
#define SIGNALS_H

#include <stdbool.h>

/* Blocks SIGCHLD and the signals that tell to end; gives a signalfd of them, or -1. */
int signals_open(void);

/* Takes what has come. True when told to end: SIGCHLD only says that stops are waiting. */
bool signals_tell_to_end(int signals);

#endif
