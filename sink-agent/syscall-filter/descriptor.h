/*
 * What a descriptor of a process of the set is. The descriptor table is the kernel's own: each question looks at
 * /proc/PID/fd/N, so that no dup, close, accept or passed descriptor has to be followed and none can be missed. Only
 * what can't change is remembered, by device and inode: the type of a socket, and that a pipe or socket pair lies inside the set.
 */
#ifndef DESCRIPTOR_H
#define DESCRIPTOR_H

#include "process.h"
#include "rules.h"

#include <sys/socket.h>

struct known {
	uint64_t device, inode;
	enum kind kind;
};

struct external {
	pid_t inner_pid;
	int fd;
};

/* Of a pseudo terminal: who holds it. */
struct master {
	pid_t pid;
	int fd;
	uint64_t index;
};

struct descriptors {
	const struct set *set;
	struct known *known; /* open hash table of sockets and pipes */
	size_t capacity, count;
	struct external *externals;
	size_t externals_count;
	struct master last_master; /* that was found; looked at again before it is believed */
	int unix_diag; /* netlink socket in the container's network namespace, asked for the peers of unix sockets */
};

/* Reads the list of descriptors whose other end stayed in the VM (JSON lines {"pid":n,"fd":n}); NULL: none. 0 or -errno. */
int descriptors_open(struct descriptors *descriptors, const struct set *set, const char *external_file);
enum kind descriptor_kind(struct descriptors *descriptors, const struct process *process, int fd);
bool descriptor_readable(const struct process *process, int fd);
/* Open for reading alone. */
bool descriptor_read_only(const struct process *process, int fd);
/*
 * The absolute path of a directory or file, of the working directory for AT_FDCWD. False when it was deleted or is none, and for
 * a process whose root is not the container's.
 */
bool descriptor_path(const struct process *process, int fd, char *path, size_t size);
/* The peer of a network socket. False when it has none. */
bool descriptor_peer(const struct process *process, int fd, struct sockaddr_storage *peer);
/* Writes `203.0.113.7:51312` or `[2001:db8::1]:80`, an IPv4 address in IPv6 as IPv4. The length, 0 for other families. */
size_t descriptor_print_address(const struct sockaddr_storage *address, char *to, size_t size);
/* Writes what it leads to: addresses of a socket, the path of a file. */
void descriptor_target(const struct process *process, int fd, char *target, size_t size);

#endif
