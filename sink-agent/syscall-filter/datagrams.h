/*
 * Datagrams that wait unread in the sockets of the set: CRIU drops them, so before a dump they are copied for the VM. They stay
 * where they are, should the dump fail and the set run on here.
 */
#ifndef DATAGRAMS_H
#define DATAGRAMS_H

#include "process.h"

/* Calls `each` with every one as an IP packet, in the order in which they came to their socket. No thread of the set may run. */
void datagrams_each(const struct set *set, void (*each)(const uint8_t *mac, const uint8_t *packet, size_t length));

#endif
