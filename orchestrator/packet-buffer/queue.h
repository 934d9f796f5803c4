/* One NFQUEUE: receives packets from netfilter and gives verdicts. */
#ifndef QUEUE_H
#define QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct queue_packet {
	uint32_t id;
	uint16_t ether_type;
	const uint8_t *source_mac; /* NULL when the kernel gave none */
	const uint8_t *data;
	size_t length;
};

typedef void (*queue_handler)(const struct queue_packet *packet);

/* Binds queue `number` in this network namespace; returns the socket to poll, or -1 after saying why on stderr. */
int queue_open(uint16_t number, uint32_t max_packets, queue_handler handler);
/* Hands what has arrived to the handler, at most about `most` packets. */
void queue_receive(int most);
void queue_accept_through(uint32_t id); /* this packet and all before it, in order */
void queue_drop(uint32_t id);
/* Packets that the kernel could not queue since the start: queue full, or socket buffer full. */
unsigned long queue_lost(void);
void queue_close(void);

#endif
