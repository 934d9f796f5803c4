/* The deciders that look at a call's objects: descriptors, requests, processes, mappings. */
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
DECIDER(by_inotify_read); /* read of anything; of an inotify only while it has nothing to say */
DECIDER(by_kill);         /* kill, tkill, *sigqueueinfo: the process first, the signal second */
DECIDER(by_tgkill);       /* process, thread, signal */
DECIDER(by_process);      /* asks about a process: 0, the caller or another of the set */
DECIDER(by_prlimit);
DECIDER(by_mmap);
DECIDER(by_madvise);
DECIDER(by_prctl);
DECIDER(by_personality);
DECIDER(by_futex);

#endif
