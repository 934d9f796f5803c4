/* Descriptors and requests on them: allow-lists. What is not on a list is activity. */
#define _GNU_SOURCE
#include "objects.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <linux/sockios.h>
#include <asm/termbits.h>

bool listed(uint64_t value, const uint64_t *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (list[i] == value)
			return true;
	return false;
}

enum rule_id rule_of_kind(enum kind kind)
{
	if (kind_is_inside(kind))
		return RULE_DESCRIPTOR_INSIDE;
	switch (kind) {
	case KIND_NONE:
		return RULE_DESCRIPTOR_NONE;
	case KIND_FILE:
		return RULE_DESCRIPTOR_FILE;
	case KIND_EXTERNAL:
		return RULE_DESCRIPTOR_EXTERNAL;
	case KIND_PEER_OUTSIDE:
		return RULE_DESCRIPTOR_PEER;
	default:
		return RULE_DESCRIPTOR_KIND;
	}
}

DECIDER(by_descriptor)
{
	enum rule_id rule = call->rule;

	for (int i = 0; call->signature[i]; i++) {
		if (call->signature[i] != 'd')
			continue;
		rule = rule_of_kind(world->kind(world->self, (int)args[i]));
		*fd = (int)args[i];
		if (!rules[rule].allowed)
			return rule;
	}
	return rule;
}

DECIDER(by_accept)
{
	enum rule_id rule = by_descriptor(call, world, args, fd);

	return rules[rule].allowed ? RULE_CONNECTION_ACCEPT : rule;
}

/* An inotify of dummy files tells nothing of the VM's files. */
DECIDER(by_inotify_read)
{
	enum rule_id rule = by_descriptor(call, world, args, fd);

	if (rules[rule].allowed && world->kind(world->self, *fd) == KIND_INOTIFY && world->readable(world->self, *fd))
		return RULE_DESCRIPTOR_FILE;
	return rule;
}

DECIDER(by_ioctl)
{
	static const uint64_t terminal[] = {
		TCGETS, TCSETS, TCSETSW, TCSETSF, TCGETS2, TCSETS2, TCSETSW2, TCSETSF2, TCSBRK, TCSBRKP, TCXONC, TCFLSH,
		TIOCGWINSZ, TIOCSWINSZ, TIOCGPGRP, TIOCSPGRP, TIOCGSID, TIOCOUTQ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX,
		TIOCGPTN, TIOCGPTLCK, TIOCGPKT, TIOCGEXCL,
	};
	static const uint64_t others[] = { FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, SIOCOUTQ, 0x894b /* SIOCOUTQNSD */, 0x8905 /* SIOCATMARK */ };
	/* About one interface that the caller names; the sink has those of the VM that face its clients. */
	static const uint64_t interface[] = { SIOCGIFNAME, SIOCGIFINDEX, SIOCGIFADDR, SIOCGIFNETMASK, SIOCGIFBRDADDR, SIOCGIFFLAGS,
		SIOCGIFMTU, SIOCGIFHWADDR };
	enum rule_id rule = by_descriptor(call, world, args, fd);

	if (rule != RULE_DESCRIPTOR_INSIDE)
		return rule;
	/* Asking whether it is a terminal is what TCGETS does on everything else. */
	uint64_t request = (uint32_t)args[1];
	enum kind kind = world->kind(world->self, *fd);
	bool runs = kind == KIND_PTY ? LISTED(request, terminal) : LISTED(request, others) || request == TCGETS;
	if (kind == KIND_UDP || kind == KIND_TCP || kind == KIND_TCP_LISTENER)
		runs = runs || LISTED(request, interface);
	return runs ? rule : RULE_DESCRIPTOR_REQUEST;
}

DECIDER(by_fcntl)
{
	static const uint64_t commands[] = { F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD, F_DUPFD_CLOEXEC, F_GETOWN, F_GETSIG, F_GETOWN_EX,
		F_GETPIPE_SZ };
	enum rule_id rule = by_descriptor(call, world, args, fd);

	if (rule != RULE_DESCRIPTOR_INSIDE)
		return rule;
	if (!LISTED((uint32_t)args[1], commands))
		return RULE_DESCRIPTOR_REQUEST;
	/* Signals on readiness (O_ASYNC) are not carried by the image. */
	if ((int)args[1] == F_SETFL && (args[2] & (uint64_t)O_ASYNC))
		return RULE_DESCRIPTOR_REQUEST;
	return rule;
}

DECIDER(by_getsockopt)
{
	enum rule_id rule = by_descriptor(call, world, args, fd);
	int level = (int)args[1], option = (int)args[2];

	if (rule != RULE_DESCRIPTOR_INSIDE)
		return rule;
	if (level == SOL_SOCKET)
		return option == 77 /* SO_PEERPIDFD makes a descriptor */ ? RULE_DESCRIPTOR_REQUEST : rule;
	if (level == IPPROTO_TCP)
		return option == 35 /* TCP_ZEROCOPY_RECEIVE maps pages */ ? RULE_DESCRIPTOR_REQUEST : rule;
	/* From 64 on these levels are netfilter's tables. */
	if ((level == IPPROTO_IP || level == IPPROTO_IPV6) && option >= 0 && option < 64)
		return rule;
	return RULE_DESCRIPTOR_REQUEST;
}

DECIDER(by_setsockopt)
{
	static const uint64_t generic[] = { SO_KEEPALIVE, SO_LINGER, SO_RCVBUF, SO_SNDBUF, SO_RCVLOWAT, SO_OOBINLINE, SO_PRIORITY,
		SO_RCVTIMEO, SO_SNDTIMEO, SO_REUSEADDR, SO_REUSEPORT, SO_BROADCAST, SO_DONTROUTE };
	static const uint64_t tcp[] = { TCP_NODELAY, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_QUICKACK };
	enum rule_id rule = by_descriptor(call, world, args, fd);
	int level = (int)args[1];

	if (rule != RULE_DESCRIPTOR_INSIDE)
		return rule;
	if (level == SOL_SOCKET && LISTED((uint32_t)args[2], generic))
		return rule;
	if (level == IPPROTO_TCP && LISTED((uint32_t)args[2], tcp))
		return rule;
	if ((level == IPPROTO_IP && (int)args[2] == IP_TOS) || (level == IPPROTO_IPV6 && (int)args[2] == IPV6_TCLASS))
		return rule;
	return RULE_DESCRIPTOR_REQUEST;
}

/* fstat in other words: the path is empty and the descriptor is meant. */
static enum rule_id stat_by(const struct call *call, const struct world *world, const uint64_t *args, uint64_t flags, int *fd)
{
	char first = 0;

	if (!(flags & AT_EMPTY_PATH) || (args[1] && !world->memory(world->self, args[1], &first, 1)) || first)
		return call->rule;
	*fd = (int)args[0];
	return rule_of_kind(world->kind(world->self, *fd));
}

DECIDER(by_fstatat)
{
	return stat_by(call, world, args, args[3], fd);
}

DECIDER(by_statx)
{
	return stat_by(call, world, args, args[2], fd);
}

