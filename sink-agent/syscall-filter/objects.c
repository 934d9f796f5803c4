/* Deciders: allow-lists on the objects of a call. What is not on a list is activity. */
#define _GNU_SOURCE
#include "objects.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <linux/sockios.h>
#include <asm/termbits.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

#define LISTED(value, list) listed((uint64_t)(value), list, sizeof(list) / sizeof((list)[0]))

static bool listed(uint64_t value, const uint64_t *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (list[i] == value)
			return true;
	return false;
}

static enum rule_id rule_of_kind(enum kind kind)
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
	static const uint64_t others[] = { FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, SIOCOUTQ, 0x8905 /* SIOCATMARK */ };
	enum rule_id rule = by_descriptor(call, world, args, fd);

	if (rule != RULE_DESCRIPTOR_INSIDE)
		return rule;
	/* Asking whether it is a terminal is what TCGETS does on everything else. */
	uint64_t request = (uint32_t)args[1];
	if (world->kind(world->self, *fd) == KIND_PTY ? LISTED(request, terminal)
						      : LISTED(request, others) || request == TCGETS)
		return rule;
	return RULE_DESCRIPTOR_REQUEST;
}

DECIDER(by_fcntl)
{
	static const uint64_t commands[] = { F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD, F_DUPFD_CLOEXEC, F_GETOWN, 1032 /* F_GETPIPE_SZ */ };
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
		return rule;
	/* From 64 on these levels are netfilter's tables. */
	if ((level == IPPROTO_IP || level == IPPROTO_IPV6) && option >= 0 && option < 64)
		return rule;
	return RULE_DESCRIPTOR_REQUEST;
}

DECIDER(by_setsockopt)
{
	static const uint64_t generic[] = { SO_KEEPALIVE, SO_LINGER, SO_RCVBUF, SO_SNDBUF, SO_RCVLOWAT, SO_OOBINLINE, SO_PRIORITY,
		SO_RCVTIMEO, SO_SNDTIMEO };
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
	if (!world->memory(world->self, args[1], &message, sizeof(message)))
		return RULE_DESCRIPTOR_ADDRESS;
	return message.msg_name || message.msg_controllen ? RULE_DESCRIPTOR_ADDRESS : rule;
}

DECIDER(by_sendmmsg)
{
	enum rule_id rule = by_descriptor(call, world, args, fd);

	if (rule == RULE_DESCRIPTOR_INSIDE && sends_by_address(world, *fd, (int)args[3], true))
		return RULE_DESCRIPTOR_ADDRESS;
	return rule;
}

/* glibc's fstat: the path is empty and the descriptor is meant. */
DECIDER(by_fstatat)
{
	char first = 0;

	if (!(args[3] & AT_EMPTY_PATH) || (args[1] && !world->memory(world->self, args[1], &first, 1)) || first)
		return call->rule;
	*fd = (int)args[0];
	return rule_of_kind(world->kind(world->self, *fd));
}

static enum rule_id signal_to(const struct world *world, int pid, int number)
{
	if (pid <= 0 || !world->in_set(world->self, pid))
		return RULE_SIGNAL_OUTSIDE;
	/* These two act without being delivered, so that nobody could judge them on arrival. */
	if (number == SIGKILL || number == SIGSTOP)
		return RULE_SIGNAL_OUTSIDE;
	return RULE_SIGNAL_SET;
}

DECIDER(by_kill)
{
	(void)call, (void)fd;
	return signal_to(world, (int)args[0], (int)args[1]);
}

DECIDER(by_tgkill)
{
	(void)call, (void)fd;
	if (!world->in_set(world->self, (int)args[0]))
		return RULE_SIGNAL_OUTSIDE;
	return signal_to(world, (int)args[1], (int)args[2]);
}

DECIDER(by_process)
{
	int pid = (int)args[0];

	(void)fd;
	return pid == 0 || world->in_set(world->self, pid) ? call->rule : RULE_SYSTEM;
}

DECIDER(by_prlimit)
{
	(void)fd;
	if (args[2])
		return RULE_PROCESS_STATE;
	return args[0] == 0 || (int)args[0] == world->pid ? call->rule : RULE_SYSTEM;
}

DECIDER(by_mmap)
{
	(void)world, (void)fd;
	return args[3] & MAP_ANONYMOUS ? call->rule : RULE_MEMORY_FILE;
}

DECIDER(by_madvise)
{
	/* Not MADV_REMOVE, which punches holes into the file behind a mapping. */
	static const uint64_t advice[] = { MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED, MADV_FREE,
		MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTDUMP, MADV_DODUMP, MADV_COLD, MADV_PAGEOUT };

	(void)world, (void)fd;
	return LISTED((uint32_t)args[2], advice) ? call->rule : RULE_MEMORY_FILE;
}

DECIDER(by_prctl)
{
	static const uint64_t options[] = { PR_GET_NAME, PR_SET_NAME, PR_GET_DUMPABLE, PR_GET_PDEATHSIG, PR_SET_VMA, PR_GET_KEEPCAPS,
		PR_CAPBSET_READ, PR_GET_NO_NEW_PRIVS, PR_GET_SECCOMP, PR_GET_TIMERSLACK };

	(void)world, (void)fd;
	return LISTED((uint32_t)args[0], options) ? call->rule : RULE_PROCESS_STATE;
}

DECIDER(by_personality)
{
	(void)world, (void)fd;
	return (uint32_t)args[0] == 0xffffffffu ? call->rule : RULE_PROCESS_STATE;
}

/* Any futex of the set may be used; FUTEX_FD does not exist any more, and requests unknown to us are refused. */
DECIDER(by_futex)
{
	int command = (int)args[1] & FUTEX_CMD_MASK;

	(void)world, (void)fd;
	return command >= FUTEX_WAIT && command <= FUTEX_LOCK_PI2 && command != FUTEX_FD ? call->rule : RULE_CALL_UNKNOWN;
}
