/* Enters another process's network namespace, to make sockets there that stay in it. */
#ifndef NETNS_H
#define NETNS_H

#include <sys/types.h>

/* Enters the namespace of `pid` (CAP_SYS_ADMIN). A descriptor of our own to give to netns_leave, or -errno. */
int netns_enter(pid_t pid);
/* Comes back, and closes `own`. 0 or -errno. */
int netns_leave(int own);

#endif
