/* The other end of a unix socket, which only the kernel's sock_diag interface tells. */
#ifndef UNIX_PEER_H
#define UNIX_PEER_H

#include <stdint.h>
#include <sys/types.h>

/* A socket to ask with, in the network namespace of process `pid`; negative errno on failure. */
int unix_peer_open(pid_t pid);
/* The inode of the peer of the socket with this inode; 0 when it has none; negative errno when that can't be told. */
long unix_peer(int diag, uint64_t inode);

#endif
