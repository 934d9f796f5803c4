/* IP packets from their parts. IPv4 addresses are written as IPv6 ones (::ffff:a.b.c.d). Pure. */
#ifndef IP_PACKET_H
#define IP_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define IP4_HEADER 20
#define IP6_HEADER 40
#define UDP_HEADER 8

struct address {
	uint8_t host[16];
	uint16_t port; /* in network order */
};

/* Writes an IPv4 address in its mapped form. */
void address_map(uint8_t *to, const uint8_t *ipv4);
bool address_is_mapped(const uint8_t *host);
/* False when it is neither IPv4's nor IPv6's. */
bool address_read(const struct sockaddr_storage *socket_address, struct address *address);

/* Of a TCP segment or a UDP datagram with its header: what its checksum field must be, with 0 in it before. */
uint16_t transport_checksum(const uint8_t *from, const uint8_t *to, uint8_t protocol, const uint8_t *bytes, size_t length);
/* Writes an IP header of `protocol` for `length` bytes right before `bytes`, and gives its start. */
uint8_t *put_ip_header(const uint8_t *from, const uint8_t *to, uint8_t protocol, uint8_t *bytes, size_t length);
/* Puts the headers before a payload, which has IP6_HEADER + UDP_HEADER bytes of room before it; gives the packet's start. */
uint8_t *udp_packet(const struct address *from, const struct address *to, uint8_t *payload, size_t length);

#endif
