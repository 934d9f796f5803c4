#define _GNU_SOURCE
#include "connect-check.h"

#include "netns.h"
#include "waiting.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* The epoll set carries this descriptor in its own events, so that one descriptor is all there is to keep. */
#define LISTENER (1ull << 32)
#define EVENTS 32

static int listen_at(uint16_t port)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
	int off = 0, flags = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
	int fd = socket(AF_INET6, flags, 0);

	if (fd >= 0 && (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) || bind(fd, (void *)&in6, sizeof(in6)))) {
		close(fd);
		fd = -1;
	}
	if (fd < 0) { /* no IPv6 here */
		fd = socket(AF_INET, flags, 0);
		if (fd >= 0 && bind(fd, (void *)&in, sizeof(in))) {
			close(fd);
			fd = -1;
		}
	}
	return fd < 0 || listen(fd, 64) ? -errno : fd;
}

static int add(int checks, int fd, uint64_t kind)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP, .data.u64 = kind | (uint32_t)fd };

	return epoll_ctl(checks, EPOLL_CTL_ADD, fd, &event) ? -errno : waiting_watch(fd);
}

int connect_check_open(pid_t pid, uint16_t port)
{
	int checks = epoll_create1(EPOLL_CLOEXEC);
	int own = checks < 0 ? -errno : netns_enter(pid);

	if (own < 0)
		return own;
	int listener = listen_at(port);
	int error = netns_leave(own);
	if (listener < 0)
		return listener;
	error = error ? error : add(checks, listener, LISTENER);
	return error ? error : checks;
}

static void print_address(const struct sockaddr_storage *address, char *to, size_t size)
{
	char host[INET6_ADDRSTRLEN] = "?";

	if (address->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)address;
		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		snprintf(to, size, "%s:%u", host, ntohs(in->sin_port));
	} else {
		const struct sockaddr_in6 *in6 = (const void *)address;
		bool mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
		inet_ntop(mapped ? AF_INET : AF_INET6, in6->sin6_addr.s6_addr + (mapped ? 12 : 0), host, sizeof(host));
		snprintf(to, size, mapped ? "%s:%u" : "[%s]:%u", host, ntohs(in6->sin6_port));
	}
}

/* The port that the client meant, before the redirection. */
static unsigned original_port(int fd)
{
	struct sockaddr_storage meant;
	socklen_t length = sizeof(meant);

	if (!getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, &meant, &length))
		return ntohs(((struct sockaddr_in *)&meant)->sin_port);
	length = sizeof(meant);
	if (!getsockopt(fd, SOL_IPV6, IP6T_SO_ORIGINAL_DST, &meant, &length))
		return ntohs(((struct sockaddr_in6 *)&meant)->sin6_port);
	return 0;
}

static void describe(int fd, char *who, size_t size)
{
	struct sockaddr_storage peer = { 0 };
	socklen_t length = sizeof(peer);
	char client[80] = "?";

	if (!getpeername(fd, (void *)&peer, &length))
		print_address(&peer, client, sizeof(client));
	snprintf(who, size, "%s sent data to port %u", client, original_port(fd));
}

/* True when the other side sent data. */
static bool serve_one(int fd, char *who, size_t size)
{
	struct linger at_once = { .l_onoff = 1 };
	char byte;
	ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (got > 0) {
		describe(fd, who, size);
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	}
	close(fd);
	return got > 0;
}

bool connect_check_serve(int checks, char *who, size_t size)
{
	struct epoll_event events[EVENTS];
	int count = epoll_wait(checks, events, EVENTS, 0);
	bool data = false;

	for (int i = 0; i < count; i++) {
		int fd = (int)(uint32_t)events[i].data.u64;
		if (!(events[i].data.u64 & LISTENER)) {
			data = serve_one(fd, who, size) || data;
			continue;
		}
		int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (connection >= 0 && add(checks, connection, 0))
			close(connection);
	}
	return data;
}
