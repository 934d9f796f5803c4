#include "frames.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

int frames_open(const char *device)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET};
	address.sll_ifindex = (int)if_nametoindex(device);
	if (!address.sll_ifindex)
		return -1;
	/* Protocol 0: this socket only sends. CAP_NET_RAW. */
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address))) {
		int reason = errno;
		close(fd);
		errno = reason;
		return -1;
	}
	return fd;
}

enum frame_result frames_send(int fd, const struct packet *packet, const uint8_t *destination_mac)
{
	struct ethhdr header;
	memcpy(header.h_dest, destination_mac, MAC_BYTES);
	memcpy(header.h_source, packet->source_mac, MAC_BYTES);
	header.h_proto = htons(packet->ether_type);
	struct iovec parts[2] = {
		{.iov_base = &header, .iov_len = sizeof(header)},
		{.iov_base = (void *)(uintptr_t)packet->data, .iov_len = packet->length},
	};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
	if (sendmsg(fd, &message, MSG_DONTWAIT) >= 0)
		return FRAME_SENT;
	if (errno == EAGAIN || errno == ENOBUFS || errno == EINTR)
		return FRAME_LATER;
	return errno == EMSGSIZE ? FRAME_TOO_BIG : FRAME_FAILED;
}
