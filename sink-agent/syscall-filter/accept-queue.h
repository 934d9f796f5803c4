/* The queues of connections that a program's listeners have not accepted. */
#ifndef ACCEPT_QUEUE_H
#define ACCEPT_QUEUE_H

#include "ip-packet.h"
#include "process.h"

/* Which listeners, by the port that they are bound to. */
typedef bool (*port_choice)(void *self, uint16_t port);

/* A copy of the process's descriptor, to be closed; -1: it is not open. Needs CAP_SYS_PTRACE. */
int borrow_socket(const struct process *process, int fd);
bool socket_local(int socket, struct address *local);
/* Takes out and ends what waits, without a word to the clients. No thread of the set may run. */
void accept_queues_empty(const struct set *set, port_choice chosen, void *self);
/* The same, and makes that a connection gets into the queue before its client has sent any bytes. */
void accept_queues_prepare(const struct set *set, port_choice chosen, void *self);

#endif
