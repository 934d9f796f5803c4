#define _GNU_SOURCE
#include "datagrams.h"

#include "ip-packet.h"
#include "report.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SOCKETS 256
#define HEADERS (IP6_HEADER + UDP_HEADER)
/* Of whoever sent it nothing is known at this layer; nobody answers to a source address of a frame. */
static const uint8_t NO_MAC[6];

struct seen {
	uint64_t inodes[SOCKETS];
	size_t count;
};

/* A socket that several processes hold is looked at once. */
static bool first_look(struct seen *seen, uint64_t inode)
{
	for (size_t i = 0; i < seen->count; i++)
		if (seen->inodes[i] == inode)
			return false;
	if (seen->count == SOCKETS)
		return false;
	seen->inodes[seen->count++] = inode;
	return true;
}

static int option(int socket, int level, int name)
{
	int value = -1;
	socklen_t length = sizeof(value);

	return getsockopt(socket, level, name, &value, &length) ? -1 : value;
}

/* Where a datagram was sent to: as the socket is bound, unless it is bound to every address. */
static void find_destination(struct msghdr *message, struct address *to)
{
	for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
		if (part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_PKTINFO)
			address_map(to->host, (uint8_t *)&((struct in_pktinfo *)CMSG_DATA(part))->ipi_addr);
		else if (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_PKTINFO)
			memcpy(to->host, &((struct in6_pktinfo *)CMSG_DATA(part))->ipi6_addr, 16);
	}
}

/* Peeks at all that waits; with a peek offset each look goes on where the last one ended. */
static void copy_waiting(int socket, void (*each)(const uint8_t *mac, const uint8_t *packet, size_t length))
{
	static uint8_t packet[HEADERS + 0xffff];
	struct sockaddr_storage bound = { 0 }, peer;
	socklen_t length = sizeof(bound);
	struct address from, to;

	if (getsockname(socket, (void *)&bound, &length) || !address_read(&bound, &to))
		return;
	for (;;) {
		_Alignas(struct cmsghdr) char control[256];
		struct iovec payload = { packet + HEADERS, sizeof(packet) - HEADERS };
		struct msghdr message = { .msg_name = &peer, .msg_namelen = sizeof(peer), .msg_iov = &payload, .msg_iovlen = 1,
			.msg_control = control, .msg_controllen = sizeof(control) };
		ssize_t size = recvmsg(socket, &message, MSG_PEEK | MSG_DONTWAIT);
		if (size < 0)
			return;
		find_destination(&message, &to);
		if (!address_read(&peer, &from))
			continue;
		uint8_t *start = udp_packet(&from, &to, packet + HEADERS, (size_t)size);
		each(NO_MAC, start, (size_t)(packet + HEADERS + size - start));
	}
}

static void look_at(int socket, void (*each)(const uint8_t *mac, const uint8_t *packet, size_t length))
{
	int on = 1, start = 0, family = option(socket, SOL_SOCKET, SO_DOMAIN);
	int level = family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP;
	int name = family == AF_INET6 ? IPV6_RECVPKTINFO : IP_PKTINFO;
	int before = option(socket, level, name), offset = option(socket, SOL_SOCKET, SO_PEEK_OFF);

	/* The threads are stopped, so nobody sees the options changed; they are put back. */
	setsockopt(socket, level, name, &on, sizeof(on));
	if (!setsockopt(socket, SOL_SOCKET, SO_PEEK_OFF, &start, sizeof(start)))
		copy_waiting(socket, each);
	setsockopt(socket, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof(offset));
	setsockopt(socket, level, name, &before, sizeof(before));
}

void datagrams_each(const struct set *set, void (*each)(const uint8_t *mac, const uint8_t *packet, size_t length))
{
	struct seen seen = { .count = 0 };
	struct dirent *entry;
	struct stat status;

	for (const struct process *process = set->processes; process; process = process->next) {
		int own = openat(process->fd_directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		DIR *directory = own < 0 ? NULL : fdopendir(own);
		while (directory && (entry = readdir(directory))) {
			if (entry->d_name[0] == '.' || fstatat(process->fd_directory, entry->d_name, &status, 0) ||
			    !S_ISSOCK(status.st_mode) || !first_look(&seen, status.st_ino))
				continue;
			int socket = (int)syscall(SYS_pidfd_getfd, process->pidfd, atoi(entry->d_name), 0);
			if (socket < 0)
				continue;
			if (option(socket, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_UDP)
				look_at(socket, each);
			close(socket);
		}
		if (directory)
			closedir(directory);
	}
}
