/* What the buffer says of the packets that it holds. */
#ifndef REPORT_H
#define REPORT_H

#include "packet.h"

#define REPORT_BYTES 384

/* How many of them are connection requests. */
size_t report_connections(const struct fifo *fifo);
/*
 * `"first":{…}` into `to`: the first connection request, or without one the oldest packet; `"first":null` of none.
 * {"protocol":"tcp","syn":true,"source":"10.77.0.2","sourcePort":51312,"destination":"10.77.0.11","port":22}
 */
const char *report_first(const struct fifo *fifo, char to[REPORT_BYTES]);

#endif
