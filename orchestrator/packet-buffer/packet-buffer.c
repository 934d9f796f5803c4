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
 *   status                     {"mode","held","bytes","lost","folded","released","diverted","oldestMs","connections","first"}
 *   watch                      from now on say of each connection request that is held {"first":{…}}
 *   hold                       from now on keep everything
 *   release                    let all that is held go on to the VM, in order, and what comes after it too; says how many
 *                              that were, how many of them connection requests, and how long the first had waited
 *   divert iface=I mac=M [keep=PORT,…] [except=PREFIX,…] [linger=MS]
 *                              send all that is held out of device I, to Ethernet address M, in order, and what still
 *                              comes in the next MS (250) as well; SYNs to the kept ports stay held, but for those
 *                              of the sources in the prefixes (ADDRESS or ADDRESS/BITS). Answers when
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

#include "buffer.h"
#include "control.h"
#include "divert.h"
#include "queue.h"
#include "report.h"

enum mode mode = HOLD;
struct fifo held;
struct counters counters;
static const char *const MODE_NAMES[] = {"hold", "pass", "divert"};

static volatile sig_atomic_t quitting;

static uint32_t last_passed;
static bool passed_any;

static void tell_watchers(struct packet *packet)
{
	const struct fifo one = {.head = packet, .tail = packet, .count = 1};
	char first[REPORT_BYTES];
	control_tell("{%s}", report_first(&one, first));
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
		counters.no_memory++;
		queue_drop(arrived->id);
		return;
	}
	if (mode == DIVERT && !divert_keeps(packet)) {
		divert_take(packet);
	} else if (syn_set_add(&packet->syn)) {
		fifo_push(&held, packet);
		if (packet->syn.family)
			tell_watchers(packet);
	} else {
		counters.folded++;
		queue_drop(packet->id);
		free(packet);
	}
}

static void release_all(int client)
{
	size_t count = held.count, connections = report_connections(&held);
	long long oldest_ms = count ? (long long)(now_ms() - held.head->arrived_ms) : 0;
	if (count)
		queue_accept_through(held.tail->id);
	counters.released += count;
	fifo_clear(&held);
	syn_set_clear();
	control_reply(client, "{\"released\":%zu,\"connections\":%zu,\"oldestMs\":%lld}", count, connections, oldest_ms);
}

/* ---- commands ---- */

static void report_status(int client)
{
	const struct fifo *outgoing = divert_outgoing();
	size_t count = held.count + outgoing->count;
	const struct packet *oldest = held.head;
	const struct packet *first = outgoing->head;
	if (!oldest || (first && first->arrived_ms < oldest->arrived_ms))
		oldest = first;
	char first_held[REPORT_BYTES];
	control_reply(client,
		      "{\"mode\":\"%s\",\"held\":%zu,\"bytes\":%zu,\"lost\":%lu,\"folded\":%lu,"
		      "\"released\":%lu,\"diverted\":%lu,\"oldestMs\":%lld,\"connections\":%zu,%s}",
		      MODE_NAMES[mode], count, held.bytes + outgoing->bytes,
		      queue_lost() + counters.too_big + counters.no_memory, counters.folded,
		      counters.released, counters.diverted,
		      oldest ? (long long)(now_ms() - oldest->arrived_ms) : 0, report_connections(&held),
		      report_first(&held, first_held));
}

static void handle_command(int client, char *line)
{
	if (!strcmp(line, "status")) {
		report_status(client);
	} else if (!strcmp(line, "watch")) {
		control_reply(client, "{\"mode\":\"%s\"}", MODE_NAMES[mode]);
		control_watch(client);
	} else if (!strcmp(line, "quit force")) {
		control_reply(client, "{\"lost\":%zu}", held.count + divert_outgoing()->count);
		quitting = 1;
	} else if (divert_is_sending()) {
		control_reply(client, "{\"error\":\"busy: a divert is under way\"}");
	} else if (!strcmp(line, "hold")) {
		/* The answer first: to close a packet socket takes the kernel many milliseconds (it waits for all processors). */
		bool diverted = mode == DIVERT;
		mode = HOLD;
		control_reply(client, "{\"mode\":\"hold\",\"held\":%zu}", held.count);
		if (diverted)
			divert_close();
	} else if (!strcmp(line, "release")) {
		bool diverted = mode == DIVERT;
		mode = PASS;
		release_all(client);
		if (diverted)
			divert_close();
	} else if (!strncmp(line, "divert ", 7)) {
		if (mode == PASS)
			control_reply(client, "{\"error\":\"expected mode hold, got pass: nothing is held\"}");
		else
			divert_start(client, line + 7);
	} else if (!strcmp(line, "quit")) {
		if (held.count) {
			control_reply(client, "{\"error\":\"%zu packets are held: release or divert them\"}", held.count);
			return;
		}
		control_reply(client, "{\"lost\":0}");
		quitting = 1;
	} else {
		/* Not echoed: it may be anything. */
		control_reply(client, "{\"error\":\"expected status, watch, hold, release, divert or quit\"}");
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
	if (passed_any)
		queue_accept_through(last_passed);
}

static void loop(int queue_fd)
{
	struct pollfd fds[CONTROL_FDS + 1];
	while (!quitting) {
		control_prepare(fds);
		fds[CONTROL_FDS] = (struct pollfd){.fd = queue_fd, .events = POLLIN};
		int timeout = mode == DIVERT ? divert_poll_timeout() : -1;
		if (poll(fds, CONTROL_FDS + 1, timeout) < 0 && errno != EINTR) {
			perror("packet-buffer: poll");
			return;
		}
		/* Packets first: what arrived before a command is held when the command is handled. */
		receive();
		control_handle(fds);
		if (mode == DIVERT)
			divert_continue();
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
	return 0;
}
