#define _GNU_SOURCE
#include "accept-gate.h"

#include "accept-queue.h"
#include "handshake.h"
#include "ip-packet.h"
#include "netns.h"
#include "report.h"
#include "waiting.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <linux/netlink.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef IPV6_HDRINCL
#define IPV6_HDRINCL 36
#endif

/* Marks our own packets, which netfilter must not hand to us again; sink-agent/sandbox/connections.ts has the same. */
#define OWN_MARK 0x5ea1
#define PLACES 1024
#define PACKET_BYTES 160 /* a SYN: headers with all their options */
/* After this nobody waits for an answer to a SYN any more. */
#define FORGOTTEN_MS 90000
/* Of the window of a client whose SYN was not seen. */
#define SMALL_WINDOW 1024

enum stage { EMPTY, SYN_LET_IN, ANSWER_KEPT, ANSWER_SENT };

struct handshake {
	enum stage stage;
	int64_t since;
	struct segment syn, answer;
	uint8_t mac[6]; /* whence the SYN came, and by which device; 0: not known */
	unsigned device;
	size_t syn_length, answer_length;
	uint8_t syn_packet[PACKET_BYTES], answer_packet[PACKET_BYTES];
};

struct origin {
	unsigned device;
	uint8_t mac[6];
};

struct gate {
	struct gate_plan plan;
	struct nfq_handle *handle;
	struct nfq_q_handle *queue;
	int out4, out6; /* raw sockets, for packets with their IP header */
	int link; /* the same, where the next hop is known */
	bool is_shut;
	struct handshake places[PLACES];
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static struct handshake *find(struct gate *gate, const struct ends *ends)
{
	for (struct handshake *each = gate->places; each < gate->places + PLACES; each++)
		if (each->stage != EMPTY && ends_equal(&each->syn.ends, ends))
			return each;
	return NULL;
}

/* A place for a new handshake: an empty one, or the oldest that is done with. NULL when all are under way. */
static struct handshake *make_place(struct gate *gate)
{
	struct handshake *oldest = NULL;
	int64_t forgotten = now_ms() - FORGOTTEN_MS;

	for (struct handshake *each = gate->places; each < gate->places + PLACES; each++) {
		if (each->stage == EMPTY)
			return each;
		bool done = each->stage == ANSWER_SENT || each->since < forgotten;
		if (done && (!oldest || each->since < oldest->since))
			oldest = each;
	}
	return oldest;
}

static void send_packet(const struct gate *gate, bool v6, const uint8_t *to, const uint8_t *packet, size_t length)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };

	memcpy(&in.sin_addr, to + 12, sizeof(in.sin_addr));
	memcpy(&in6.sin6_addr, to, sizeof(in6.sin6_addr));
	ssize_t sent = v6 ? sendto(gate->out6, packet, length, 0, (void *)&in6, sizeof(in6))
			  : sendto(gate->out4, packet, length, 0, (void *)&in, sizeof(in));
	if (sent < 0)
		log_line("sending a segment of a handshake failed: %s", strerror(errno));
}

/* It goes over the loopback, which keeps the route that it left by: so its foreign source is no obstacle. */
static void complete(const struct gate *gate, const struct handshake *handshake)
{
	uint8_t buffer[FORGED_BYTES];
	size_t length;
	uint32_t window = handshake->syn_length ? handshake->syn.window : SMALL_WINDOW;
	uint8_t *packet = handshake_forge(&handshake->answer, window, handshake->syn.scale, buffer, &length);

	send_packet(gate, handshake->answer.v6, handshake->answer.ends.server, packet, length);
}

/*
 * Back the way that the SYN came. The kernel might first have to ask for the neighbour's address, and by the time of its answer
 * the sink may be closed: then the client would have no SYN+ACK for a connection that went into the image.
 */
static bool send_back(const struct gate *gate, const struct handshake *handshake)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_protocol = htons(handshake->answer.v6 ? ETH_P_IPV6 : ETH_P_IP),
		.sll_ifindex = (int)handshake->device, .sll_halen = sizeof(handshake->mac) };

	memcpy(to.sll_addr, handshake->mac, sizeof(handshake->mac));
	return handshake->device &&
	       sendto(gate->link, handshake->answer_packet, handshake->answer_length, 0, (void *)&to, sizeof(to)) >= 0;
}

static void send_answer(const struct gate *gate, struct handshake *handshake)
{
	if (!send_back(gate, handshake))
		send_packet(gate, handshake->answer.v6, handshake->answer.ends.client, handshake->answer_packet, handshake->answer_length);
	handshake->stage = ANSWER_SENT;
	handshake->since = now_ms();
}

static bool is_gated(void *self, uint16_t port)
{
	const struct gate *gate = self;

	for (size_t i = 0; i < gate->plan.count; i++)
		if (gate->plan.ports[i] == port)
			return true;
	return false;
}

/* True when the SYN may go on into the sink's stack. */
static bool on_syn(struct gate *gate, const struct segment *syn, const uint8_t *packet, size_t length,
		   const struct origin *origin)
{
	struct handshake *handshake = find(gate, &syn->ends);

	if (handshake && handshake->syn.sequence == syn->sequence && handshake->syn_length) {
		if (handshake->stage == ANSWER_SENT)
			send_answer(gate, handshake);
		/* The stack may have had no room for it the first time. */
		return handshake->stage == SYN_LET_IN;
	}
	if (!handshake)
		handshake = make_place(gate);
	if (!handshake)
		return false;
	*handshake = (struct handshake){ .stage = SYN_LET_IN, .since = now_ms(), .syn = *syn, .syn_length = length };
	memcpy(handshake->syn_packet, packet, length);
	handshake->device = origin->device;
	memcpy(handshake->mac, origin->mac, sizeof(handshake->mac));
	return !gate->is_shut;
}

/* Nothing of it goes on by itself. */
static void on_answer(struct gate *gate, const struct segment *answer, const uint8_t *packet, size_t length)
{
	struct handshake *handshake = find(gate, &answer->ends);

	if (!handshake)
		handshake = make_place(gate);
	if (!handshake || gate->is_shut || handshake->stage == ANSWER_SENT)
		return;
	if (handshake->stage == EMPTY)
		*handshake = (struct handshake){ .since = now_ms(), .syn = *answer };
	/* Again when it comes again: the listener's queue was full the first time. */
	handshake->stage = ANSWER_KEPT;
	handshake->answer = *answer;
	handshake->answer_length = length;
	memcpy(handshake->answer_packet, packet, length);
	complete(gate, handshake);
}

static bool may_pass(struct gate *gate, const uint8_t *packet, size_t length, const struct origin *origin)
{
	struct segment segment;

	if (length > PACKET_BYTES || !handshake_parse(packet, length, &segment))
		return false;
	if (ntohs(segment.ends.server_port) == gate->plan.free_port)
		return !gate->is_shut;
	/* Such a client's segments belong to one interface, and a forged one comes in by another: no gate for it. */
	if (ends_local_link(&segment.ends))
		return !gate->is_shut;
	if (!segment.answer)
		return on_syn(gate, &segment, packet, length, origin);
	on_answer(gate, &segment, packet, length);
	return false;
}

static int on_packet(struct nfq_q_handle *queue, struct nfgenmsg *message, struct nfq_data *data, void *self)
{
	struct nfqnl_msg_packet_hdr *header = nfq_get_msg_packet_hdr(data);
	struct nfqnl_msg_packet_hw *hardware = nfq_get_packet_hw(data);
	struct origin origin = { .device = 0 };
	unsigned char *packet;
	int length = nfq_get_payload(data, &packet);

	(void)message;
	if (!header)
		return 0;
	if (hardware && ntohs(hardware->hw_addrlen) == sizeof(origin.mac)) {
		origin.device = nfq_get_indev(data);
		memcpy(origin.mac, hardware->hw_addr, sizeof(origin.mac));
	}
	bool pass = length > 0 && may_pass(self, packet, (size_t)length, &origin);
	return nfq_set_verdict(queue, ntohl(header->packet_id), pass ? NF_ACCEPT : NF_DROP, 0, NULL) < 0 ? -1 : 0;
}

int gate_fd(const struct gate *gate)
{
	return nfq_fd(gate->handle);
}

void gate_receive(struct gate *gate)
{
	_Alignas(8) char message[8192];
	ssize_t length;

	while ((length = recv(gate_fd(gate), message, sizeof(message), MSG_DONTWAIT)) > 0 || (length < 0 && errno == EINTR))
		if (length > 0)
			nfq_handle_packet(gate->handle, message, (int)length);
}

static bool peer_address(int socket, struct address *peer)
{
	struct sockaddr_storage address = { 0 };
	socklen_t length = sizeof(address);

	return !getpeername(socket, (void *)&address, &length) && address_read(&address, peer);
}

static void answer_client(struct gate *gate, const struct address *local, const struct address *peer)
{
	struct ends ends = { .client_port = peer->port, .server_port = local->port };

	memcpy(ends.client, peer->host, 16);
	memcpy(ends.server, local->host, 16);
	struct handshake *handshake = find(gate, &ends);
	if (handshake && handshake->stage == ANSWER_KEPT)
		send_answer(gate, handshake);
}

bool gate_accepted(struct gate *gate, const struct process *process, int fd)
{
	struct address local, peer;
	int copy = borrow_socket(process, fd);
	bool gated = copy >= 0 && socket_local(copy, &local) && is_gated(gate, ntohs(local.port));

	if (gated && peer_address(copy, &peer))
		answer_client(gate, &local, &peer);
	if (copy >= 0)
		close(copy);
	return gated;
}

void gate_shut(struct gate *gate, const struct set *set,
	       void (*returned)(const uint8_t *mac, const uint8_t *packet, size_t length))
{
	int64_t forgotten = now_ms() - FORGOTTEN_MS;

	gate->is_shut = true;
	gate_receive(gate);
	accept_queues_empty(set, is_gated, gate);
	for (struct handshake *each = gate->places; each < gate->places + PLACES; each++)
		if ((each->stage == SYN_LET_IN || each->stage == ANSWER_KEPT) && each->syn_length && each->since > forgotten)
			returned(each->mac, each->syn_packet, each->syn_length);
}

static int open_sockets(struct gate *gate)
{
	int on = 1, mark = OWN_MARK;

	gate->handle = nfq_open();
	if (!gate->handle)
		return -errno;
	int fd = nfq_fd(gate->handle);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof(on));
	int unheard = waiting_watch(fd);
	if (unheard)
		return unheard;
	gate->queue = nfq_create_queue(gate->handle, gate->plan.queue, on_packet, gate);
	if (!gate->queue || nfq_set_mode(gate->queue, NFQNL_COPY_PACKET, PACKET_BYTES + 1) < 0)
		return -errno;
	gate->link = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (gate->link < 0)
		return -errno;
	gate->out4 = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	gate->out6 = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	if (gate->out4 < 0 || setsockopt(gate->out4, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)))
		return -errno;
	/* Without IPv6 in the kernel there are no such clients. */
	if (gate->out6 >= 0 && (setsockopt(gate->out6, SOL_IPV6, IPV6_HDRINCL, &on, sizeof(on)) ||
				setsockopt(gate->out6, SOL_SOCKET, SO_MARK, &mark, sizeof(mark))))
		return -errno;
	return 0;
}

struct gate *gate_open(const struct gate_plan *plan, const struct set *set, int *error)
{
	struct gate *gate = calloc(1, sizeof(*gate));

	if (!gate || !set->processes) {
		free(gate);
		*error = gate ? -ESRCH : -ENOMEM;
		return NULL;
	}
	gate->plan = *plan;
	int own = netns_enter(set->processes->pid);
	*error = own < 0 ? own : open_sockets(gate);
	int stuck = own < 0 ? 0 : netns_leave(own);
	if (*error || stuck) {
		*error = *error ? *error : stuck;
		free(gate);
		return NULL;
	}
	accept_queues_prepare(set, is_gated, gate);
	return gate;
}
