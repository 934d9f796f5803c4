#include "unix-peer.h"

#include "netns.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <string.h>
#include <sys/socket.h>

int unix_peer_open(pid_t pid)
{
	int own = netns_enter(pid);

	if (own < 0)
		return own;
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	int error = fd < 0 ? -errno : 0;
	int stuck = netns_leave(own);
	return error ? error : stuck ? stuck : fd;
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
