/* What is sent to whom: an address makes a connection of its own, and a message can carry descriptors. */
#define _GNU_SOURCE
#include "objects.h"

#include <string.h>
#include <sys/socket.h>

#define MOST_CONTROL_BYTES 2048

static bool is_unix(enum kind kind)
{
	return kind == KIND_UNIX || kind == KIND_UNIX_LISTENER;
}

/* MSG_FASTOPEN connects. */
static bool sends_by_address(const struct world *world, int fd, int flags, bool has_address)
{
	return (flags & MSG_FASTOPEN) || (has_address && is_unix(world->kind(world->self, fd)));
}

DECIDER(by_sendto)
{
	enum rule_id rule = by_descriptor(call, world, args, fd);

	if (rule == RULE_DESCRIPTOR_INSIDE && sends_by_address(world, *fd, (int)args[3], args[4] != 0))
		return RULE_DESCRIPTOR_ADDRESS;
	return rule;
}

/*
 * Descriptors may be passed within the set when each is inside. Credentials may not: the image of a socket's queue does not
 * carry them all. Another thread can change the bytes after this look; then a dummy is passed on, and using it is activity.
 */
static bool passes_inside(const struct world *world, const struct msghdr *message)
{
	_Alignas(struct cmsghdr) unsigned char control[MOST_CONTROL_BYTES];
	struct msghdr copy = { .msg_control = control, .msg_controllen = message->msg_controllen };

	if (message->msg_controllen > sizeof(control) ||
	    !world->memory(world->self, (uint64_t)(uintptr_t)message->msg_control, control, message->msg_controllen))
		return false;
	for (struct cmsghdr *part = CMSG_FIRSTHDR(&copy); part; part = CMSG_NXTHDR(&copy, part)) {
		size_t left = sizeof(control) - (size_t)((unsigned char *)part - control);
		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS || part->cmsg_len < CMSG_LEN(0) || part->cmsg_len > left)
			return false;
		for (size_t at = 0; at + sizeof(int) <= part->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
			int passed;
			memcpy(&passed, CMSG_DATA(part) + at, sizeof(passed));
			enum kind kind = world->kind(world->self, passed);
			if (!kind_is_inside(kind) || kind == KIND_INOTIFY)
				return false;
		}
	}
	return true;
}

DECIDER(by_sendmsg)
{
	enum rule_id rule = by_descriptor(call, world, args, fd);
	struct msghdr message;

	if (rule != RULE_DESCRIPTOR_INSIDE)
		return rule;
	if (sends_by_address(world, *fd, (int)args[2], false))
		return RULE_DESCRIPTOR_ADDRESS;
	if (!is_unix(world->kind(world->self, *fd)))
		return rule;
	if (!world->memory(world->self, args[1], &message, sizeof(message)) || message.msg_name)
		return RULE_DESCRIPTOR_ADDRESS;
	return message.msg_controllen == 0 || passes_inside(world, &message) ? rule : RULE_DESCRIPTOR_ADDRESS;
}

DECIDER(by_sendmmsg)
{
	enum rule_id rule = by_descriptor(call, world, args, fd);

	if (rule == RULE_DESCRIPTOR_INSIDE && sends_by_address(world, *fd, (int)args[3], true))
		return RULE_DESCRIPTOR_ADDRESS;
	return rule;
}
