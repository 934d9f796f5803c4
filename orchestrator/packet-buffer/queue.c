#include "queue.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define SOCKET_BUFFER_BYTES (64 << 20)

static struct nfq_handle *handle;
static struct nfq_q_handle *queue;
static queue_handler on_packet;
static uint16_t queue_number;
static _Alignas(8) char message[0xffff + 4096];

static int receive_one(struct nfq_q_handle *q, struct nfgenmsg *nfmsg, struct nfq_data *data, void *unused)
{
	(void)q;
	(void)nfmsg;
	(void)unused;
	struct nfqnl_msg_packet_hdr *header = nfq_get_msg_packet_hdr(data);
	if (!header)
		return 0;
	struct nfqnl_msg_packet_hw *hardware = nfq_get_packet_hw(data);
	unsigned char *payload = NULL;
	int length = nfq_get_payload(data, &payload);
	struct queue_packet packet = {
		.id = ntohl(header->packet_id),
		.ether_type = ntohs(header->hw_protocol),
		.source_mac = hardware && ntohs(hardware->hw_addrlen) == 6 ? hardware->hw_addr : NULL,
		.data = payload,
		.length = length > 0 ? (size_t)length : 0,
	};
	on_packet(&packet);
	return 0;
}

int queue_open(uint16_t number, uint32_t max_packets, queue_handler handler)
{
	on_packet = handler;
	queue_number = number;
	handle = nfq_open();
	if (!handle) {
		fprintf(stderr, "packet-buffer: can't open nfnetlink_queue: %s\n", strerror(errno));
		return -1;
	}
	int fd = nfq_fd(handle);
	/* CAP_NET_ADMIN, which binding the queue needs anyway, lets the buffer pass net.core.rmem_max. */
	int size = SOCKET_BUFFER_BYTES, on = 1;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	/* A full buffer then drops packets (which are counted) instead of failing every receive. */
	setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof(on));
	queue = nfq_create_queue(handle, number, receive_one, NULL);
	if (!queue) {
		fprintf(stderr, "packet-buffer: can't bind queue %u: %s\n", number, strerror(errno));
		return -1;
	}
	/* Whole packets: whether they go on or are sent elsewhere is known only later. */
	if (nfq_set_mode(queue, NFQNL_COPY_PACKET, 0xffff) < 0 || nfq_set_queue_maxlen(queue, max_packets) < 0) {
		fprintf(stderr, "packet-buffer: can't configure queue %u: %s\n", number, strerror(errno));
		return -1;
	}
	return fd;
}

void queue_receive(int most)
{
	for (int i = 0; i < most; i++) {
		ssize_t n = recv(nfq_fd(handle), message, sizeof(message), MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		nfq_handle_packet(handle, message, (int)n);
	}
}

void queue_accept_through(uint32_t id)
{
	if (nfq_set_verdict_batch(queue, id, NF_ACCEPT) < 0)
		fprintf(stderr, "packet-buffer: verdict on %u failed: %s\n", id, strerror(errno));
}

void queue_drop(uint32_t id)
{
	if (nfq_set_verdict(queue, id, NF_DROP, 0, NULL) < 0)
		fprintf(stderr, "packet-buffer: verdict on %u failed: %s\n", id, strerror(errno));
}

unsigned long queue_lost(void)
{
	FILE *file = fopen("/proc/self/net/netfilter/nfnetlink_queue", "re");
	if (!file)
		return 0;
	char line[256];
	unsigned long lost = 0;
	while (fgets(line, sizeof(line), file)) {
		unsigned number;
		unsigned long full, unsent;
		if (sscanf(line, "%u %*u %*u %*u %*u %lu %lu", &number, &full, &unsent) == 3 && number == queue_number)
			lost = full + unsent;
	}
	fclose(file);
	return lost;
}

void queue_close(void)
{
	if (queue)
		nfq_destroy_queue(queue);
	if (handle)
		nfq_close(handle);
}
