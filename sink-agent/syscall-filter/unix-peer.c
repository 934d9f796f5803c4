#define _GNU_SOURCE
#include "unix-peer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Enters the container's network namespace only to make the socket (CAP_SYS_ADMIN), and comes back. */
int unix_peer_open(pid_t pid)
{
	char path[32];
	int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), fd = -1, error = 0;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	int theirs = open(path, O_RDONLY | O_CLOEXEC);
	if (own < 0 || theirs < 0 || setns(theirs, CLONE_NEWNET)) {
		error = -errno;
	} else {
		fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
		error = fd < 0 ? -errno : 0;
		if (setns(own, CLONE_NEWNET))
			error = -errno;
	}
	if (own >= 0)
		close(own);
	if (theirs >= 0)
		close(theirs);
	return error ? error : fd;
}

long unix_peer(int diag, uint64_t inode)
{
	struct {
		struct nlmsghdr header;
		struct unix_diag_req request;
	} ask = {
		.header = { .nlmsg_len = sizeof(ask), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST },
		.request = { .sdiag_family = AF_UNIX, .udiag_states = ~0u, .udiag_ino = (uint32_t)inode,
			.udiag_show = UDIAG_SHOW_PEER, .udiag_cookie = { ~0u, ~0u } },
	};
	_Alignas(struct nlmsghdr) char answer[1024];

	if (diag < 0)
		return diag;
	if (send(diag, &ask, sizeof(ask), 0) < 0)
		return -errno;
	ssize_t length = recv(diag, answer, sizeof(answer), 0);
	const struct nlmsghdr *header = (const void *)answer;
	if (length < 0 || !NLMSG_OK(header, (size_t)length) || header->nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return -ENOENT;
	const struct unix_diag_msg *message = NLMSG_DATA(header);
	const struct rtattr *attribute = (const void *)(message + 1);
	int left = (int)(header->nlmsg_len - NLMSG_LENGTH(sizeof(*message)));
	for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left))
		if (attribute->rta_type == UNIX_DIAG_PEER) {
			uint32_t peer;
			memcpy(&peer, RTA_DATA(attribute), sizeof(peer));
			return (long)peer;
		}
	return 0;
}
