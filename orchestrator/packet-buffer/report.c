#include "report.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

struct endpoints {
	uint8_t protocol;
	char source[INET6_ADDRSTRLEN], destination[INET6_ADDRSTRLEN];
	unsigned source_port, port; /* 0: the protocol has none, or this is a later fragment */
};

size_t report_connections(const struct fifo *fifo)
{
	size_t count = 0;
	for (const struct packet *packet = fifo->head; packet; packet = packet->next)
		count += packet->syn.family != 0;
	return count;
}

static void parse_ports(struct endpoints *ends, const uint8_t *data, size_t length)
{
	if ((ends->protocol != IPPROTO_TCP && ends->protocol != IPPROTO_UDP) || length < 4)
		return;
	ends->source_port = (unsigned)(data[0] << 8 | data[1]);
	ends->port = (unsigned)(data[2] << 8 | data[3]);
}

static bool parse_endpoints(const struct packet *packet, struct endpoints *ends)
{
	const uint8_t *data = packet->data;
	uint8_t version = packet->length ? data[0] >> 4 : 0;
	if (version == 4 && packet->length >= 20) {
		size_t header = (size_t)(data[0] & 0x0f) * 4;
		bool later_fragment = (data[6] & 0x1f) || data[7];
		ends->protocol = data[9];
		inet_ntop(AF_INET, data + 12, ends->source, sizeof(ends->source));
		inet_ntop(AF_INET, data + 16, ends->destination, sizeof(ends->destination));
		if (!later_fragment && header <= packet->length)
			parse_ports(ends, data + header, packet->length - header);
		return true;
	}
	if (version == 6 && packet->length >= 40) {
		ends->protocol = data[6]; /* of an extension header when there is one: then without ports */
		inet_ntop(AF_INET6, data + 8, ends->source, sizeof(ends->source));
		inet_ntop(AF_INET6, data + 24, ends->destination, sizeof(ends->destination));
		parse_ports(ends, data + 40, packet->length - 40);
		return true;
	}
	return false;
}

static const char *protocol_name(uint8_t protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return "tcp";
	case IPPROTO_UDP:
		return "udp";
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return "icmp";
	default:
		return "other";
	}
}

const char *report_first(const struct fifo *fifo, char to[REPORT_BYTES])
{
	const struct packet *first = fifo->head;
	for (const struct packet *packet = first; packet; packet = packet->next) {
		if (packet->syn.family) {
			first = packet;
			break;
		}
	}
	struct endpoints ends = {0};
	if (!first || !parse_endpoints(first, &ends))
		snprintf(to, REPORT_BYTES, "\"first\":null");
	else
		snprintf(to, REPORT_BYTES,
			 "\"first\":{\"protocol\":\"%s\",\"syn\":%s,\"source\":\"%s\",\"sourcePort\":%u,"
			 "\"destination\":\"%s\",\"port\":%u}",
			 protocol_name(ends.protocol), first->syn.family ? "true" : "false", ends.source, ends.source_port,
			 ends.destination, ends.port);
	return to;
}
