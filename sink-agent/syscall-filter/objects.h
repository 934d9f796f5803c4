/*
 * The deciders that look at a call's objects: descriptors and requests on them (objects.c), messages (messages.c), memory, processes
 * and timers (own-state.c).
 */
#ifndef OBJECTS_H
#define OBJECTS_H

#include "rules.h"

#define DECIDER(name) \
	enum rule_id name(const struct call *call, const struct world *world, const uint64_t *args, int *fd)

DECIDER(by_descriptor);   /* every descriptor among the arguments must be inside */
DECIDER(by_accept);
DECIDER(by_ioctl);
DECIDER(by_fcntl);
DECIDER(by_getsockopt);
DECIDER(by_setsockopt);
DECIDER(by_sendto);
DECIDER(by_sendmsg);
DECIDER(by_sendmmsg);
DECIDER(by_fstatat);
DECIDER(by_statx);
DECIDER(by_inotify_read); /* read of anything; of an inotify only while it has nothing to say */
DECIDER(by_kill);         /* kill, tkill, *sigqueueinfo: the process first, the signal second */
DECIDER(by_tgkill);       /* process, thread, signal */
DECIDER(by_process);      /* asks about a process: 0, the caller or another of the set */
DECIDER(by_prlimit);
DECIDER(by_getpriority);
DECIDER(by_mmap);
DECIDER(by_mprotect);
DECIDER(by_mremap);
DECIDER(by_madvise);
DECIDER(by_arch_prctl);
DECIDER(by_timer_create);
DECIDER(by_prctl);
DECIDER(by_personality);
DECIDER(by_futex);

#define LISTED(value, list) listed((uint64_t)(value), list, sizeof(list) / sizeof((list)[0]))
bool listed(uint64_t value, const uint64_t *list, size_t count);
enum rule_id rule_of_kind(enum kind kind);

#endif
