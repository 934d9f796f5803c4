/*
 * Whom a thread serves: the peer of the network socket on which it last received or accepted. Noted at the end of such a call,
 * which costs next to nothing; the address is asked for only when somebody wants to know.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include "rules.h"

#include <netinet/in.h>
#include <stdbool.h>

struct thread;
struct set;

/* A connected socket by its number, or the sender of a datagram by its address. */
struct client {
	int fd; /* meaningful when `known` and `address` is empty */
	bool known;
	struct sockaddr_in6 address; /* large enough for IPv4 too; family 0: none */
};

/* What a call in progress will tell. */
struct receiving {
	enum { NOT_RECEIVING, FROM_CONNECTION, FROM_ACCEPT, FROM_ADDRESS, FROM_MESSAGE, FROM_MESSAGES } how;
	int fd;
	uint64_t address; /* in the caller's memory: a socket address, a message header, an array of these */
};

/* At the entry of an allowed call on descriptor `fd` of that kind. */
void client_at_entry(struct thread *thread, long nr, const uint64_t *args, int fd, enum kind kind);
void client_at_exit(struct thread *thread, long result);
/* Writes whom the thread served last, else its process, else the nearest of its ancestors. False when nobody. */
bool client_of(const struct set *set, const struct thread *thread, char *text, size_t size);

#endif
