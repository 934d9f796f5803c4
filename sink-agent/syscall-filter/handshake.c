#include "handshake.h"

#include "ip-packet.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#define TCP_HEADER 20
#define STAMP_OPTION 12 /* with two NOPs before it */

static uint32_t word(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return ntohl(value);
}

static void put_word(uint8_t *at, uint32_t value)
{
	value = htonl(value);
	memcpy(at, &value, sizeof(value));
}

static void read_options(const uint8_t *option, const uint8_t *end, struct segment *segment)
{
	while (option < end && *option != TCPOPT_EOL) {
		if (*option == TCPOPT_NOP) {
			option++;
			continue;
		}
		if (end - option < 2 || option[1] < 2 || option[1] > end - option)
			return;
		if (*option == TCPOPT_WINDOW && option[1] == TCPOLEN_WINDOW) {
			segment->scales = true;
			segment->scale = option[2];
		} else if (*option == TCPOPT_TIMESTAMP && option[1] == TCPOLEN_TIMESTAMP) {
			segment->stamped = true;
			segment->stamp = word(option + 2);
			segment->echoed = word(option + 6);
		}
		option += option[1];
	}
}

bool handshake_parse(const uint8_t *packet, size_t length, struct segment *segment)
{
	uint8_t source[16], destination[16];
	size_t header;

	memset(segment, 0, sizeof(*segment));
	if (length >= IP4_HEADER && packet[0] >> 4 == 4) {
		bool fragment = (packet[6] & 0x3f) || packet[7];
		header = (size_t)(packet[0] & 0x0f) * 4;
		if (packet[9] != IPPROTO_TCP || fragment || header < IP4_HEADER)
			return false;
		address_map(source, packet + 12);
		address_map(destination, packet + 16);
	} else if (length >= IP6_HEADER && packet[0] >> 4 == 6) {
		header = IP6_HEADER;
		if (packet[6] != IPPROTO_TCP) /* no extension headers: a handshake carries none in practice */
			return false;
		memcpy(source, packet + 8, 16);
		memcpy(destination, packet + 24, 16);
		segment->v6 = true;
	} else {
		return false;
	}
	if (length < header + TCP_HEADER)
		return false;
	const uint8_t *tcp = packet + header;
	size_t tcp_header = (size_t)(tcp[12] >> 4) * 4;
	uint8_t flags = tcp[13] & (TH_SYN | TH_ACK | TH_RST | TH_FIN);
	if (tcp_header < TCP_HEADER || length < header + tcp_header || (flags != TH_SYN && flags != (TH_SYN | TH_ACK)))
		return false;
	segment->answer = flags & TH_ACK;
	memcpy(segment->ends.client, segment->answer ? destination : source, 16);
	memcpy(segment->ends.server, segment->answer ? source : destination, 16);
	memcpy(&segment->ends.client_port, tcp + (segment->answer ? 2 : 0), 2);
	memcpy(&segment->ends.server_port, tcp + (segment->answer ? 0 : 2), 2);
	segment->sequence = word(tcp + 4);
	segment->acknowledged = word(tcp + 8);
	segment->window = (uint16_t)(tcp[14] << 8 | tcp[15]);
	read_options(tcp + TCP_HEADER, tcp + tcp_header, segment);
	return true;
}

uint8_t *handshake_forge(const struct segment *answer, uint32_t window, uint8_t client_scale, uint8_t buffer[FORGED_BYTES],
			 size_t *length)
{
	const struct ends *ends = &answer->ends;
	size_t tcp_length = TCP_HEADER + (answer->stamped ? STAMP_OPTION : 0);
	uint8_t *tcp = buffer + IP6_HEADER;
	/* From here on windows are scaled, if both sides said so in their SYNs. */
	uint32_t scaled = answer->scales ? window >> client_scale : window;

	memset(buffer, 0, FORGED_BYTES);
	memcpy(tcp, &ends->client_port, 2);
	memcpy(tcp + 2, &ends->server_port, 2);
	put_word(tcp + 4, answer->acknowledged);
	put_word(tcp + 8, answer->sequence + 1);
	tcp[12] = (uint8_t)(tcp_length / 4 << 4);
	tcp[13] = TH_ACK;
	tcp[14] = (uint8_t)(scaled >> 8);
	tcp[15] = (uint8_t)scaled;
	if (answer->stamped) {
		tcp[20] = tcp[21] = TCPOPT_NOP;
		tcp[22] = TCPOPT_TIMESTAMP;
		tcp[23] = TCPOLEN_TIMESTAMP;
		put_word(tcp + 24, answer->echoed);
		put_word(tcp + 28, answer->stamp);
	}
	uint16_t sum = transport_checksum(ends->client, ends->server, IPPROTO_TCP, tcp, tcp_length);
	tcp[16] = (uint8_t)(sum >> 8);
	tcp[17] = (uint8_t)sum;
	uint8_t *packet = put_ip_header(ends->client, ends->server, IPPROTO_TCP, tcp, tcp_length);
	*length = (size_t)(tcp + tcp_length - packet);
	return packet;
}

bool ends_equal(const struct ends *a, const struct ends *b)
{
	return a->client_port == b->client_port && a->server_port == b->server_port &&
	       !memcmp(a->client, b->client, 16) && !memcmp(a->server, b->server, 16);
}

bool ends_local_link(const struct ends *ends)
{
	return ends->client[0] == 0xfe && (ends->client[1] & 0xc0) == 0x80;
}
