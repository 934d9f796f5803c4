/*
 * The accept gate: nothing is promised to a client before the program has its connection.
 *
 * On a port whose connections are accepted in the sink, netfilter hands us each SYN on its way in and each SYN+ACK on its way out
 * (the sink agent puts the rules there). The SYN+ACK is kept, and the client's ACK is forged, so that the program's
 * accept() returns; only then, before the thread goes on, does the client get its SYN+ACK.
 *
 *   SYN ─→ let in ─→ SYN+ACK kept, ACK forged ─→ in the listener's queue ─ accept() ─→ SYN+ACK sent
 *                                                        └── gate_shut: taken out, without a word
 *
 * So at a freeze every connection is either the program's, and goes into the image, or its client has heard nothing and
 * sends its SYN again, to the VM. (CRIU refuses to dump a listener with connections in its queue.) When we die,
 * netfilter drops what it would have handed us: nothing gets past.
 *
 * A SYN that comes again after the SYN+ACK was sent means that this was lost: it is sent once more.
 */
#ifndef ACCEPT_GATE_H
#define ACCEPT_GATE_H

#include "process.h"

#define GATE_PORTS 64

struct gate_plan {
	uint16_t queue; /* number of the NFQUEUE in the sink */
	uint16_t ports[GATE_PORTS];
	size_t count;
	uint16_t free_port; /* of our own answers to health checks: its SYNs are let in as they come; 0: none */
};

struct gate;

/*
 * Opens it in the network namespace of the set. Connections that an earlier gate left in a queue are taken out.
 * NULL with `*error` set to a negative errno.
 */
struct gate *gate_open(const struct gate_plan *plan, const struct set *set, int *error);
/* To be polled for input. */
int gate_fd(const struct gate *gate);
void gate_receive(struct gate *gate);
/* `process` has accepted `fd`. False when that is no connection of a gated port. */
bool gate_accepted(struct gate *gate, const struct process *process, int fd);
/*
 * Takes out of the queues what was not accepted, and lets nothing in any more. No thread of the set may run.
 * Calls `returned` for each client whose SYN the VM must get: with its Ethernet address and the packet.
 */
void gate_shut(struct gate *gate, const struct set *set,
	       void (*returned)(const uint8_t *mac, const uint8_t *packet, size_t length));

#endif
