/*
 * packet-buffer --queue N --control PATH [--max-packets M]
 *
 * Keeps the packets for one VM while nobody may receive them. iptables sends them here (NFQUEUE); the orchestrator
 * says over a Unix socket what becomes of them. One process per VM. It has a session of its own and needs no parent:
 * what it holds survives a crash of the orchestrator, which finds it again by the socket.
 *
 *             release                          divert
 *    pass ◄──────────── hold (at the start) ──────────► divert ─┐ linger over, or hold
 *         ────────────►                     ◄───────────────────┘
 *             hold
 *
 *   status                     {"mode","held","bytes","lost","folded","released","diverted","oldestMs"}
 *   hold                       from now on keep everything
 *   release                    let all that is held go on to the VM, in order, and what comes after it too
 *   divert iface=I mac=M [keep=PORT,…] [linger=MS]
 *                              send all that is held out of device I, to Ethernet address M, in order, and what still
 *                              comes in the next MS (250) as well; SYNs to the kept ports stay held. Answers when
 *                              all are sent; on a failure what is left is held again.
 *   quit [force]               end; refused while packets are held, unless forced: they are lost then
 *
 * A retransmitted SYN (same connection, same sequence number) of one that is held is dropped: one is enough.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control.h"
#include "frames.h"
#include "packet.h"
#include "queue.h"

#define KEPT_PORTS 64
#define LINGER_DEFAULT_MS 250
#define LINGER_MOST_MS 5000
/* A burst would overrun the socket buffer of a userspace switch at the other end of the device. */
#define FRAMES_PER_MS 32

static enum { HOLD, PASS, DIVERT } mode = HOLD;
static const char *const MODE_NAMES[] = {"hold", "pass", "divert"};

static struct fifo held;
static unsigned long folded, released, diverted, too_big, no_memory;
static volatile sig_atomic_t quitting;

static uint32_t last_passed;
static bool passed_any;

static struct {
	int fd;
	uint8_t mac[MAC_BYTES];
	uint16_t keep[KEPT_PORTS];
	size_t keep_count;
	int linger_ms;
	struct fifo outgoing;
	int client; /* who waits for the answer, or -1 */
	unsigned long count;
	int64_t until_ms;
} diversion = {.fd = -1, .client = -1};

static bool is_kept(const struct packet *packet)
{
	if (!packet->syn.family)
		return false;
	for (size_t i = 0; i < diversion.keep_count; i++)
		if (diversion.keep[i] == packet->syn.port)
			return true;
	return false;
}

static void take_packet(const struct queue_packet *arrived)
{
	if (mode == PASS) {
		last_passed = arrived->id;
		passed_any = true;
		return;
	}
	struct packet *packet =
		packet_new(arrived->id, arrived->ether_type, arrived->source_mac, arrived->data, arrived->length);
	if (!packet) {
		no_memory++;
		queue_drop(arrived->id);
		return;
	}
	if (mode == DIVERT && !is_kept(packet)) {
		fifo_push(&diversion.outgoing, packet);
	} else if (syn_set_add(&packet->syn)) {
		fifo_push(&held, packet);
	} else {
		folded++;
		queue_drop(packet->id);
		free(packet);
	}
}

static size_t release_all(void)
{
	size_t count = held.count;
	if (count)
		queue_accept_through(held.tail->id);
	released += count;
	fifo_clear(&held);
	syn_set_clear();
	return count;
}

/* ---- divert: what is held goes to `outgoing`, which the main loop sends bit by bit ---- */

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
	diversion.keep_count = 0;
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
		} else if (!strncmp(word, "linger=", 7)) {
			char *end;
			unsigned long ms = strtoul(word + 7, &end, 10);
			if (*end || !word[7] || ms > LINGER_MOST_MS)
				return "expected linger= with 0 to 5000 ms";
			diversion.linger_ms = (int)ms;
		} else {
			return "expected divert iface=I mac=M [keep=PORT,...] [linger=MS]";
		}
	}
	return *device && has_mac ? NULL : "expected divert with iface= and mac=";
}

static void start_divert(int client, char *arguments)
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
		if (is_kept(packet)) {
			fifo_push(&kept, packet);
		} else {
			syn_set_remove(&packet->syn);
			fifo_push(&diversion.outgoing, packet);
		}
	}
	held = kept;
}

static void end_divert(void)
{
	mode = HOLD;
	close(diversion.fd);
	diversion.fd = -1;
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
	end_divert();
}

static void continue_divert(void)
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
			too_big++;
		else
			diversion.count++, diverted++;
		queue_drop(packet->id);
		free(fifo_pop(&diversion.outgoing));
	}
	if (diversion.outgoing.head)
		return;
	if (diversion.client >= 0) {
		control_reply(diversion.client, "{\"diverted\":%lu,\"held\":%zu}", diversion.count, held.count);
		diversion.client = -1;
		diversion.until_ms = now_ms() + diversion.linger_ms;
	}
	if (now_ms() >= diversion.until_ms)
		end_divert();
}

/* ---- commands ---- */

static void report_status(int client)
{
	size_t count = held.count + diversion.outgoing.count;
	const struct packet *oldest = held.head;
	const struct packet *first = diversion.outgoing.head;
	if (!oldest || (first && first->arrived_ms < oldest->arrived_ms))
		oldest = first;
	control_reply(client,
		      "{\"mode\":\"%s\",\"held\":%zu,\"bytes\":%zu,\"lost\":%lu,\"folded\":%lu,"
		      "\"released\":%lu,\"diverted\":%lu,\"oldestMs\":%lld}",
		      MODE_NAMES[mode], count, held.bytes + diversion.outgoing.bytes,
		      queue_lost() + too_big + no_memory, folded, released, diverted,
		      oldest ? (long long)(now_ms() - oldest->arrived_ms) : 0);
}

static void handle_command(int client, char *line)
{
	bool sending = diversion.outgoing.head || diversion.client >= 0;
	if (!strcmp(line, "status")) {
		report_status(client);
	} else if (!strcmp(line, "quit force")) {
		control_reply(client, "{\"lost\":%zu}", held.count + diversion.outgoing.count);
		quitting = 1;
	} else if (sending) {
		control_reply(client, "{\"error\":\"busy: a divert is under way\"}");
	} else if (!strcmp(line, "hold")) {
		if (mode == DIVERT)
			end_divert();
		mode = HOLD;
		control_reply(client, "{\"mode\":\"hold\",\"held\":%zu}", held.count);
	} else if (!strcmp(line, "release")) {
		if (mode == DIVERT)
			end_divert();
		mode = PASS;
		control_reply(client, "{\"released\":%zu}", release_all());
	} else if (!strncmp(line, "divert ", 7)) {
		if (mode == PASS)
			control_reply(client, "{\"error\":\"expected mode hold, got pass: nothing is held\"}");
		else
			start_divert(client, line + 7);
	} else if (!strcmp(line, "quit")) {
		if (held.count) {
			control_reply(client, "{\"error\":\"%zu packets are held: release or divert them\"}", held.count);
			return;
		}
		control_reply(client, "{\"lost\":0}");
		quitting = 1;
	} else {
		/* Not echoed: it may be anything. */
		control_reply(client, "{\"error\":\"expected status, hold, release, divert or quit\"}");
	}
}

/* ---- main ---- */

static void on_signal(int number)
{
	(void)number;
	quitting = 1;
}

static void receive(void)
{
	passed_any = false;
	queue_receive(1024);
	if (passed_any) {
		queue_accept_through(last_passed);
	}
}

static void loop(int queue_fd)
{
	struct pollfd fds[CONTROL_FDS + 1];
	while (!quitting) {
		control_prepare(fds);
		fds[CONTROL_FDS] = (struct pollfd){.fd = queue_fd, .events = POLLIN};
		int timeout = -1;
		if (mode == DIVERT)
			timeout = diversion.outgoing.head ? 1 : (int)(diversion.until_ms - now_ms());
		if (poll(fds, CONTROL_FDS + 1, mode == DIVERT && timeout < 0 ? 0 : timeout) < 0 && errno != EINTR) {
			perror("packet-buffer: poll");
			return;
		}
		/* Packets first: what arrived before a command is held when the command is handled. */
		receive();
		control_handle(fds);
		if (mode == DIVERT)
			continue_divert();
	}
	/* The kernel drops what is left in a queue that is closed. */
	if (mode == PASS)
		receive();
}

static unsigned long number(const char *text, unsigned long least, unsigned long most, const char *what)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);
	if (*end || !*text || value < least || value > most) {
		fprintf(stderr, "packet-buffer: expected %s from %lu to %lu, got %s\n", what, least, most, text);
		exit(2);
	}
	return value;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"queue", required_argument, NULL, 'q'},
		{"control", required_argument, NULL, 'c'},
		{"max-packets", required_argument, NULL, 'm'},
		{NULL, 0, NULL, 0},
	};
	long queue_number = -1;
	unsigned long max_packets = 65535;
	const char *path = NULL;
	for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (option == 'q')
			queue_number = (long)number(optarg, 0, 65535, "a queue number");
		else if (option == 'c')
			path = optarg;
		else if (option == 'm')
			max_packets = number(optarg, 1, 65535, "a number of packets");
		else
			return 2;
	}
	if (queue_number < 0 || !path || optind != argc) {
		fprintf(stderr, "usage: packet-buffer --queue N --control PATH [--max-packets M]\n");
		return 2;
	}
	setsid(); /* fails when this is a session's leader already, which is as good */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	struct sigaction end = {.sa_handler = on_signal};
	sigaction(SIGTERM, &end, NULL);
	sigaction(SIGINT, &end, NULL);

	/* The queue before the socket: who can talk to us can rely on us to hold. */
	int queue_fd = queue_open((uint16_t)queue_number, (uint32_t)max_packets, take_packet);
	if (queue_fd < 0 || control_open(path, handle_command))
		return 1;
	loop(queue_fd);
	control_close();
	queue_close();
	fifo_clear(&held);
	fifo_clear(&diversion.outgoing);
	syn_set_clear();
	return 0;
}
