/*
 * Answers TCP connect checks in the sink's place: accepts, says nothing, closes when the other side does. The sink agent has
 * netfilter redirect the SYNs of listed sources here, so that no program of the set sees them. Who sends data wants more
 * than that the port is open: the connection is reset, so that its client tries again, and the VM is woken to serve it.
 */
#ifndef CONNECT_CHECK_H
#define CONNECT_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Listens at `port` in the network namespace of `pid`. A descriptor to be polled for input, or -errno. */
int connect_check_open(pid_t pid, uint16_t port);
/* True when somebody sent data; `who` then says from where to which port. */
bool connect_check_serve(int checks, char *who, size_t size);

#endif
