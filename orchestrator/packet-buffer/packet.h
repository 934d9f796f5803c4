/* Held packets: one allocation each, in FIFO lists in the order in which the kernel numbered them. */
#ifndef PACKET_H
#define PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAC_BYTES 6

/* What makes two TCP SYNs the same connection request: family, addresses, ports, sequence number. */
struct syn_key {
	uint8_t family; /* 4, 6, or 0: not a SYN */
	uint8_t source[16], destination[16];
	uint16_t source_port, port;
	uint32_t sequence;
};

struct packet {
	struct packet *next;
	uint32_t id; /* the kernel's */
	uint16_t ether_type;
	uint8_t source_mac[MAC_BYTES];
	struct syn_key syn;
	int64_t arrived_ms;
	size_t length;
	uint8_t data[]; /* from the IP header on */
};

struct fifo {
	struct packet *head, *tail;
	size_t count, bytes;
};

/* NULL when memory is short. */
struct packet *packet_new(uint32_t id, uint16_t ether_type, const uint8_t *mac, const uint8_t *data, size_t length);

void fifo_push(struct fifo *fifo, struct packet *packet);
struct packet *fifo_pop(struct fifo *fifo);
void fifo_clear(struct fifo *fifo);
/* Moves all of `from` into `into`, by id. */
void fifo_merge(struct fifo *into, struct fifo *from);

/* Fills `key` from an IP packet; family 0 when it is no TCP SYN (or SYN with ACK). */
void syn_parse(struct syn_key *key, const uint8_t *data, size_t length);
bool syn_equal(const struct syn_key *a, const struct syn_key *b);

/* A set of the SYNs that are held; false from syn_set_add: it is there already (or is no SYN: always true). */
bool syn_set_add(const struct syn_key *key);
void syn_set_remove(const struct syn_key *key);
void syn_set_clear(void);

int64_t now_ms(void);

#endif
