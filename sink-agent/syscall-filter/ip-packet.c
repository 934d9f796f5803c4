#include "ip-packet.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#define HOPS 64

static const uint8_t MAPPED[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

void address_map(uint8_t *to, const uint8_t *ipv4)
{
	memcpy(to, MAPPED, sizeof(MAPPED));
	memcpy(to + sizeof(MAPPED), ipv4, 4);
}

bool address_is_mapped(const uint8_t *host)
{
	return !memcmp(host, MAPPED, sizeof(MAPPED));
}

bool address_read(const struct sockaddr_storage *socket_address, struct address *address)
{
	const struct sockaddr_in *in = (const void *)socket_address;
	const struct sockaddr_in6 *in6 = (const void *)socket_address;

	if (socket_address->ss_family == AF_INET) {
		address_map(address->host, (const uint8_t *)&in->sin_addr);
		address->port = in->sin_port;
	} else if (socket_address->ss_family == AF_INET6) {
		memcpy(address->host, &in6->sin6_addr, 16);
		address->port = in6->sin6_port;
	}
	return socket_address->ss_family == AF_INET || socket_address->ss_family == AF_INET6;
}

static void put16(uint8_t *at, size_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static uint32_t sum_up(uint32_t sum, const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i + 1 < length; i += 2)
		sum += (uint32_t)(bytes[i] << 8 | bytes[i + 1]);
	return length % 2 ? sum + (uint32_t)(bytes[length - 1] << 8) : sum;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

uint16_t transport_checksum(const uint8_t *from, const uint8_t *to, uint8_t protocol, const uint8_t *bytes, size_t length)
{
	/* Of a mapped address only the last four bytes are on the wire. */
	size_t skip = address_is_mapped(from) ? sizeof(MAPPED) : 0;
	uint32_t sum = sum_up((uint32_t)length + protocol, from + skip, 16 - skip);

	return fold(sum_up(sum_up(sum, to + skip, 16 - skip), bytes, length));
}

static uint8_t *put_ip4_header(const uint8_t *from, const uint8_t *to, uint8_t protocol, uint8_t *bytes, size_t length)
{
	uint8_t *header = bytes - IP4_HEADER;

	memset(header, 0, IP4_HEADER);
	header[0] = 4 << 4 | IP4_HEADER / 4;
	put16(header + 2, IP4_HEADER + length);
	header[6] = 0x40; /* don't fragment */
	header[8] = HOPS;
	header[9] = protocol;
	memcpy(header + 12, from + sizeof(MAPPED), 4);
	memcpy(header + 16, to + sizeof(MAPPED), 4);
	put16(header + 10, fold(sum_up(0, header, IP4_HEADER)));
	return header;
}

uint8_t *put_ip_header(const uint8_t *from, const uint8_t *to, uint8_t protocol, uint8_t *bytes, size_t length)
{
	uint8_t *header = bytes - IP6_HEADER;

	if (address_is_mapped(from))
		return put_ip4_header(from, to, protocol, bytes, length);
	memset(header, 0, IP6_HEADER);
	header[0] = 6 << 4;
	put16(header + 4, length);
	header[6] = protocol;
	header[7] = HOPS;
	memcpy(header + 8, from, 16);
	memcpy(header + 24, to, 16);
	return header;
}

uint8_t *udp_packet(const struct address *from, const struct address *to, uint8_t *payload, size_t length)
{
	uint8_t *udp = payload - UDP_HEADER;

	memcpy(udp, &from->port, 2);
	memcpy(udp + 2, &to->port, 2);
	put16(udp + 4, UDP_HEADER + length);
	put16(udp + 6, 0);
	uint16_t sum = transport_checksum(from->host, to->host, IPPROTO_UDP, udp, UDP_HEADER + length);
	put16(udp + 6, sum ? sum : 0xffff);
	return put_ip_header(from->host, to->host, IPPROTO_UDP, udp, UDP_HEADER + length);
}
