/* Divert: what is held goes to `outgoing`, which the main loop sends bit by bit. */
#include "divert.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control.h"
#include "frames.h"
#include "queue.h"
#include "report.h"

#define KEPT_PORTS 64
#define PREFIXES 64
#define LINGER_DEFAULT_MS 250
#define LINGER_MOST_MS 5000
/*
 * A burst would overrun the socket buffer of a userspace switch at the other end of the device: it has room for 90 to
 * 200 frames, and nothing pushes back. On a busy machine the switch may not run for 20 ms.
 */
#define FRAMES_PER_MS 4

struct prefix {
	uint8_t family; /* 4 or 6, as in a SYN's key */
	uint8_t address[16];
	unsigned bits;
};

static struct {
	int fd;
	uint8_t mac[MAC_BYTES];
	uint16_t keep[KEPT_PORTS];
	size_t keep_count;
	struct prefix except[PREFIXES];
	size_t except_count;
	int linger_ms;
	struct fifo outgoing;
	int client; /* who waits for the answer, or -1 */
	unsigned long count;
	int64_t until_ms;
} diversion = {.fd = -1, .client = -1};

static bool is_in(const struct prefix *prefix, const struct syn_key *syn)
{
	unsigned whole = prefix->bits / 8, rest = prefix->bits % 8;
	if (prefix->family != syn->family || memcmp(prefix->address, syn->source, whole))
		return false;
	uint8_t mask = (uint8_t)(0xff << (8 - rest));
	return !rest || !((prefix->address[whole] ^ syn->source[whole]) & mask);
}

bool divert_keeps(const struct packet *packet)
{
	if (!packet->syn.family)
		return false;
	for (size_t i = 0; i < diversion.except_count; i++)
		if (is_in(&diversion.except[i], &packet->syn))
			return false;
	for (size_t i = 0; i < diversion.keep_count; i++)
		if (diversion.keep[i] == packet->syn.port)
			return true;
	return false;
}

static bool parse_ports(char *list)
{
	diversion.keep_count = 0;
	char *rest = NULL;
	for (char *item = strtok_r(list, ",", &rest); item; item = strtok_r(NULL, ",", &rest)) {
		char *end;
		unsigned long port = strtoul(item, &end, 10);
		if (*end || !port || port > 65535 || diversion.keep_count == KEPT_PORTS)
			return false;
		diversion.keep[diversion.keep_count++] = (uint16_t)port;
	}
	return true;
}

static bool parse_prefix(char *text, struct prefix *prefix)
{
	char *slash = strchr(text, '/'), *end = NULL;
	if (slash)
		*slash = 0;
	prefix->family = strchr(text, ':') ? 6 : 4;
	unsigned most = prefix->family == 4 ? 32 : 128;
	prefix->bits = slash ? (unsigned)strtoul(slash + 1, &end, 10) : most;
	return prefix->bits <= most && (!slash || (slash[1] && !*end)) &&
	       inet_pton(prefix->family == 4 ? AF_INET : AF_INET6, text, prefix->address) == 1;
}

static bool parse_prefixes(char *list)
{
	char *rest = NULL;
	for (char *item = strtok_r(list, ",", &rest); item; item = strtok_r(NULL, ",", &rest))
		if (diversion.except_count == PREFIXES || !parse_prefix(item, &diversion.except[diversion.except_count++]))
			return false;
	return true;
}

static bool parse_mac(const char *text)
{
	unsigned b[MAC_BYTES];
	int end = 0;
	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &end) != 6 || text[end])
		return false;
	for (int i = 0; i < MAC_BYTES; i++)
		diversion.mac[i] = (uint8_t)b[i];
	return true;
}

/* NULL when all is well, else what is wrong. */
static const char *parse_divert(char *arguments, const char **device)
{
	bool has_mac = false;
	char *rest = NULL;
	diversion.keep_count = diversion.except_count = 0;
	diversion.linger_ms = LINGER_DEFAULT_MS;
	for (char *word = strtok_r(arguments, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		if (!strncmp(word, "iface=", 6)) {
			*device = word + 6;
		} else if (!strncmp(word, "mac=", 4)) {
			has_mac = parse_mac(word + 4);
			if (!has_mac)
				return "expected mac= with an Ethernet address";
		} else if (!strncmp(word, "keep=", 5)) {
			if (!parse_ports(word + 5))
				return "expected keep= with at most 64 TCP ports";
		} else if (!strncmp(word, "except=", 7)) {
			if (!parse_prefixes(word + 7))
				return "expected except= with at most 64 addresses or prefixes";
		} else if (!strncmp(word, "linger=", 7)) {
			char *end;
			unsigned long ms = strtoul(word + 7, &end, 10);
			if (*end || !word[7] || ms > LINGER_MOST_MS)
				return "expected linger= with 0 to 5000 ms";
			diversion.linger_ms = (int)ms;
		} else {
			return "expected divert iface=I mac=M [keep=PORT,...] [except=PREFIX,...] [linger=MS]";
		}
	}
	return *device && has_mac ? NULL : "expected divert with iface= and mac=";
}

void divert_start(int client, char *arguments)
{
	const char *device = NULL;
	const char *wrong = parse_divert(arguments, &device);
	if (wrong) {
		control_reply(client, "{\"error\":\"%s\"}", wrong);
		return;
	}
	int fd = frames_open(device);
	if (fd < 0) {
		control_reply(client, "{\"error\":\"can't send out of that device: %s\"}", strerror(errno));
		return;
	}
	if (diversion.fd >= 0)
		close(diversion.fd);
	diversion.fd = fd;
	diversion.client = client;
	diversion.count = 0;
	mode = DIVERT;
	struct fifo kept = {0};
	struct packet *packet;
	while ((packet = fifo_pop(&held))) {
		if (divert_keeps(packet)) {
			fifo_push(&kept, packet);
		} else {
			syn_set_remove(&packet->syn);
			fifo_push(&diversion.outgoing, packet);
		}
	}
	held = kept;
}

void divert_close(void)
{
	close(diversion.fd);
	diversion.fd = -1;
}

static void divert_end(void)
{
	mode = HOLD;
	divert_close();
}

static void fail_divert(const char *reason)
{
	fprintf(stderr, "packet-buffer: divert failed: %s\n", reason);
	for (struct packet *packet = diversion.outgoing.head; packet; packet = packet->next)
		syn_set_add(&packet->syn);
	fifo_merge(&held, &diversion.outgoing);
	diversion.outgoing = (struct fifo){0};
	control_reply(diversion.client, "{\"error\":\"divert failed: %s\",\"held\":%zu}", reason, held.count);
	diversion.client = -1;
	divert_end();
}

void divert_continue(void)
{
	for (int i = 0; i < FRAMES_PER_MS && diversion.outgoing.head; i++) {
		struct packet *packet = diversion.outgoing.head;
		enum frame_result result = frames_send(diversion.fd, packet, diversion.mac);
		if (result == FRAME_LATER)
			return;
		if (result == FRAME_FAILED) {
			fail_divert(strerror(errno));
			return;
		}
		if (result == FRAME_TOO_BIG)
			counters.too_big++;
		else
			diversion.count++, counters.diverted++;
		queue_drop(packet->id);
		free(fifo_pop(&diversion.outgoing));
	}
	if (diversion.outgoing.head)
		return;
	if (diversion.client >= 0) {
		char first[REPORT_BYTES];
		control_reply(diversion.client, "{\"diverted\":%lu,\"held\":%zu,\"connections\":%zu,%s}", diversion.count,
			      held.count, report_connections(&held), report_first(&held, first));
		diversion.client = -1;
		diversion.until_ms = now_ms() + diversion.linger_ms;
	}
	if (now_ms() >= diversion.until_ms)
		divert_end();
}

void divert_take(struct packet *packet)
{
	fifo_push(&diversion.outgoing, packet);
}

bool divert_is_sending(void)
{
	return diversion.outgoing.head || diversion.client >= 0;
}

int divert_poll_timeout(void)
{
	if (diversion.outgoing.head)
		return 1;
	int64_t left = diversion.until_ms - now_ms();
	return left > 0 ? (int)left : 0;
}

const struct fifo *divert_outgoing(void)
{
	return &diversion.outgoing;
}
