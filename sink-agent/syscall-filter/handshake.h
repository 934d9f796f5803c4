/*
 * The segments of a TCP handshake, as a server's host sees them: read from packets, and the client's last one made up.
 * Pure: no call is made here. IPv4 addresses are written as IPv6 ones (::ffff:a.b.c.d).
 */
#ifndef HANDSHAKE_H
#define HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All in network order. */
struct ends {
	uint8_t client[16], server[16];
	uint16_t client_port, server_port;
};

struct segment {
	struct ends ends;
	bool v6;
	bool answer; /* SYN+ACK, from the server; else the client's SYN */
	uint32_t sequence, acknowledged;
	uint16_t window;
	bool scales; /* has the option of a window scale */
	uint8_t scale;
	bool stamped;
	uint32_t stamp, echoed; /* timestamps, as they are in the packet */
};

#define FORGED_BYTES (40 + 20 + 12)

/* False when the IP packet is neither a SYN nor a SYN+ACK. */
bool handshake_parse(const uint8_t *packet, size_t length, struct segment *segment);
/* The ACK by which the client would complete the handshake: an IP packet in `buffer`. `window` is unscaled, in bytes. */
uint8_t *handshake_forge(const struct segment *answer, uint32_t window, uint8_t client_scale, uint8_t buffer[FORGED_BYTES],
			 size_t *length);
bool ends_equal(const struct ends *a, const struct ends *b);
bool ends_local_link(const struct ends *ends);

#endif
