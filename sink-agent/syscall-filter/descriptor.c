#define _GNU_SOURCE
#include "descriptor.h"

#include "unix-peer.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#define PTY_MASTER_MAJOR 5
#define PTY_MASTER_MINOR 2
#define PTY_SLAVE_FIRST_MAJOR 136
#define PTY_SLAVE_LAST_MAJOR 143
#define MEMORY_MAJOR 1

/*
 * A copy of the process's descriptor, to ask the socket or terminal behind it. Needs CAP_SYS_PTRACE.
 * Asking changes nothing: the copy shares the file, and is closed at once.
 */
static int borrow(const struct process *process, int fd)
{
	return (int)syscall(SYS_pidfd_getfd, process->pidfd, fd, 0);
}

static int read_externals(struct descriptors *descriptors, const char *path)
{
	FILE *file = fopen(path, "re");
	char line[256];

	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		const char *pid = strstr(line, "\"pid\":"), *fd = strstr(line, "\"fd\":");
		if (!pid || !fd)
			continue;
		struct external *grown = reallocarray(descriptors->externals, descriptors->externals_count + 1, sizeof(*grown));
		if (!grown)
			break;
		descriptors->externals = grown;
		grown[descriptors->externals_count++] = (struct external){ atoi(pid + strlen("\"pid\":")), atoi(fd + strlen("\"fd\":")) };
	}
	fclose(file);
	return 0;
}

int descriptors_open(struct descriptors *descriptors, const struct set *set, const char *external_file)
{
	*descriptors = (struct descriptors){ .set = set, .capacity = 256, .unix_diag = -1 };
	descriptors->known = calloc(descriptors->capacity, sizeof(*descriptors->known));
	if (!descriptors->known)
		return -ENOMEM;
	if (set->processes)
		descriptors->unix_diag = unix_peer_open(set->processes->pid);
	return external_file ? read_externals(descriptors, external_file) : 0;
}

static struct known *slot(struct known *known, size_t capacity, uint64_t device, uint64_t inode)
{
	size_t i = (size_t)((inode ^ device << 40) * 0x9e3779b97f4a7c15ull >> 32) & (capacity - 1);

	while (known[i].inode && (known[i].inode != inode || known[i].device != device))
		i = (i + 1) & (capacity - 1);
	return &known[i];
}

static enum kind remember(struct descriptors *descriptors, const struct stat *status, enum kind kind)
{
	if (descriptors->count * 2 >= descriptors->capacity) {
		struct known *grown = calloc(descriptors->capacity * 2, sizeof(*grown));
		if (!grown)
			return kind;
		for (size_t i = 0; i < descriptors->capacity; i++)
			if (descriptors->known[i].inode)
				*slot(grown, descriptors->capacity * 2, descriptors->known[i].device,
				      descriptors->known[i].inode) = descriptors->known[i];
		free(descriptors->known);
		descriptors->known = grown;
		descriptors->capacity *= 2;
	}
	struct known *entry = slot(descriptors->known, descriptors->capacity, status->st_dev, status->st_ino);
	descriptors->count += entry->inode == 0;
	*entry = (struct known){ status->st_dev, status->st_ino, kind };
	return kind;
}

struct search {
	mode_t type;
	uint64_t device, inode; /* of a socket or pipe; of a pty master its index */
	bool master;
	int readers, writers;
	struct master at; /* the master that was found */
};

static bool fdinfo_number(const struct process *process, const char *fd, const char *key, int base, long *value)
{
	char path[64], line[128];
	bool found = false;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%.20s", process->pid, fd);
	FILE *file = fopen(path, "re");
	while (file && !found && fgets(line, sizeof(line), file))
		if ((found = !strncmp(line, key, strlen(key))))
			*value = strtol(line + strlen(key), NULL, base);
	if (file)
		fclose(file);
	return found;
}

static bool is_master(const struct process *process, const char *fd, uint64_t index)
{
	struct stat status;
	long value;

	return !fstatat(process->fd_directory, fd, &status, 0) && S_ISCHR(status.st_mode) &&
	       status.st_rdev == makedev(PTY_MASTER_MAJOR, PTY_MASTER_MINOR) &&
	       fdinfo_number(process, fd, "tty-index:", 10, &value) && (uint64_t)value == index;
}

static void search_process(const struct process *process, struct search *search)
{
	int copy = openat(process->fd_directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;
	struct stat status;
	long value;

	while (directory && (entry = readdir(directory))) {
		if (entry->d_name[0] == '.')
			continue;
		if (search->master) {
			if (is_master(process, entry->d_name, search->inode)) {
				search->readers++;
				search->at = (struct master){ process->pid, atoi(entry->d_name), search->inode };
			}
		} else if (!fstatat(process->fd_directory, entry->d_name, &status, 0) &&
			   (status.st_mode & S_IFMT) == search->type && status.st_ino == search->inode &&
			   status.st_dev == search->device &&
			   fdinfo_number(process, entry->d_name, "flags:", 8, &value)) {
			search->readers += (value & O_ACCMODE) != O_WRONLY;
			search->writers += (value & O_ACCMODE) != O_RDONLY;
		}
	}
	if (directory)
		closedir(directory);
}

static struct search search_set(const struct set *set, struct search search)
{
	for (const struct process *process = set->processes; process; process = process->next)
		search_process(process, &search);
	return search;
}

static bool polls(const struct process *process, int fd, short wanted)
{
	int copy = borrow(process, fd);
	struct pollfd poller = { copy, wanted, 0 };
	bool answer = copy >= 0 && poll(&poller, 1, 0) > 0 && (poller.revents & wanted);

	if (copy >= 0)
		close(copy);
	return answer;
}

/*
 * A pipe is inside when both ends are held in the set, or nobody holds the other end. One with a name in the file tree
 * is a dummy, whoever holds it.
 */
static enum kind pipe_kind(struct descriptors *descriptors, const struct process *process, int fd, const struct stat *status)
{
	char name[16], link[8] = "";

	snprintf(name, sizeof(name), "%d", fd);
	if (readlinkat(process->fd_directory, name, link, sizeof(link) - 1) < 0 || strncmp(link, "pipe:", strlen("pipe:")))
		return KIND_FILE;
	struct search found = search_set(descriptors->set, (struct search){ .type = S_IFIFO, .device = status->st_dev,
		.inode = status->st_ino });

	if (found.readers && found.writers)
		return remember(descriptors, status, KIND_PIPE);
	return polls(process, fd, found.readers ? POLLHUP : POLLERR) ? KIND_PIPE : KIND_PEER_OUTSIDE;
}

static int option(int fd, int name)
{
	int value = -1;
	socklen_t length = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &length) ? -1 : value;
}

static enum kind unix_kind(struct descriptors *descriptors, const struct stat *status, bool listens)
{
	if (listens)
		return remember(descriptors, status, KIND_UNIX_LISTENER);
	long peer = unix_peer(descriptors->unix_diag, status->st_ino);
	if (peer < 0)
		return KIND_PEER_OUTSIDE;
	if (peer == 0)
		return KIND_UNIX; /* unconnected, or the other end is closed; not remembered, it may change */
	struct search found = search_set(descriptors->set, (struct search){ .type = S_IFSOCK, .device = status->st_dev,
		.inode = (uint64_t)peer });
	return found.readers ? remember(descriptors, status, KIND_UNIX) : KIND_PEER_OUTSIDE;
}

static enum kind socket_kind(struct descriptors *descriptors, const struct process *process, int fd, const struct stat *status)
{
	int copy = borrow(process, fd);

	if (copy < 0)
		return KIND_OTHER;
	int domain = option(copy, SO_DOMAIN), type = option(copy, SO_TYPE), protocol = option(copy, SO_PROTOCOL);
	bool listens = option(copy, SO_ACCEPTCONN) == 1;
	close(copy);
	if (domain == AF_UNIX)
		return unix_kind(descriptors, status, listens);
	if (domain != AF_INET && domain != AF_INET6)
		return remember(descriptors, status, KIND_OTHER);
	if (type == SOCK_STREAM && protocol == IPPROTO_TCP)
		return remember(descriptors, status, listens ? KIND_TCP_LISTENER : KIND_TCP);
	return remember(descriptors, status, type == SOCK_DGRAM && protocol == IPPROTO_UDP ? KIND_UDP : KIND_OTHER);
}

/*
 * Whether somebody inside holds the master of a terminal. A shell that is typed to asks for each character, so the one that
 * was found last is looked at first: all descriptors of all processes are a third of a millisecond.
 */
static bool has_master(struct descriptors *descriptors, uint64_t index)
{
	const struct master *last = &descriptors->last_master;
	char name[16];

	snprintf(name, sizeof(name), "%d", last->fd);
	for (const struct process *process = descriptors->set->processes; process; process = process->next)
		if (process->pid == last->pid && index == last->index && is_master(process, name, index))
			return true;
	struct search found = search_set(descriptors->set, (struct search){ .master = true, .inode = index });
	if (found.readers)
		descriptors->last_master = found.at;
	return found.readers > 0;
}

static enum kind device_kind(struct descriptors *descriptors, const struct process *process, int fd, dev_t device)
{
	unsigned number = minor(device);

	if (major(device) == MEMORY_MAJOR)
		return number == 3 || number == 5 || number == 7 || number == 8 || number == 9 ? KIND_NULL : KIND_FILE;
	if (device == makedev(PTY_MASTER_MAJOR, PTY_MASTER_MINOR))
		return KIND_PTY;
	if (device == makedev(5, 0)) { /* /dev/tty: ask which terminal it is */
		int copy = borrow(process, fd);
		unsigned real = 0;
		if (copy >= 0 && !ioctl(copy, TIOCGDEV, &real))
			device = makedev((real >> 8) & 0xfff, (real & 0xff) | ((real >> 12) & 0xfff00));
		if (copy >= 0)
			close(copy);
	}
	if (major(device) < PTY_SLAVE_FIRST_MAJOR || major(device) > PTY_SLAVE_LAST_MAJOR)
		return KIND_FILE;
	uint64_t index = (major(device) - PTY_SLAVE_FIRST_MAJOR) * 256ull + minor(device);
	/* A slave whose master is gone hangs up, here as in the VM. */
	return has_master(descriptors, index) || polls(process, fd, POLLHUP) ? KIND_PTY : KIND_PEER_OUTSIDE;
}

static enum kind anonymous_kind(const struct process *process, const char *fd)
{
	static const struct {
		const char *link;
		enum kind kind;
	} names[] = {
		{ "anon_inode:[eventfd]", KIND_EVENTFD }, { "anon_inode:[timerfd]", KIND_TIMERFD },
		{ "anon_inode:[signalfd]", KIND_SIGNALFD }, { "anon_inode:[eventpoll]", KIND_EPOLL },
		{ "anon_inode:inotify", KIND_INOTIFY },
	};
	char link[64];
	ssize_t length = readlinkat(process->fd_directory, fd, link, sizeof(link) - 1);

	link[length < 0 ? 0 : length] = 0;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(link, names[i].link))
			return names[i].kind;
	return KIND_OTHER;
}

enum kind descriptor_kind(struct descriptors *descriptors, const struct process *process, int fd)
{
	char name[16];
	struct stat status;

	for (size_t i = 0; i < descriptors->externals_count; i++)
		if (descriptors->externals[i].inner_pid == process->inner_pid && descriptors->externals[i].fd == fd)
			return KIND_EXTERNAL;
	snprintf(name, sizeof(name), "%d", fd);
	if (fstatat(process->fd_directory, name, &status, 0))
		return errno == ENOENT ? KIND_NONE : KIND_OTHER;
	if (S_ISSOCK(status.st_mode) || S_ISFIFO(status.st_mode)) {
		const struct known *known = slot(descriptors->known, descriptors->capacity, status.st_dev, status.st_ino);
		if (known->inode)
			return known->kind;
		return S_ISSOCK(status.st_mode) ? socket_kind(descriptors, process, fd, &status)
						: pipe_kind(descriptors, process, fd, &status);
	}
	if (S_ISCHR(status.st_mode))
		return device_kind(descriptors, process, fd, status.st_rdev);
	return status.st_mode & S_IFMT ? KIND_FILE : anonymous_kind(process, name);
}

bool descriptor_readable(const struct process *process, int fd)
{
	return polls(process, fd, POLLIN);
}

bool descriptor_read_only(const struct process *process, int fd)
{
	char name[16];
	long flags;

	snprintf(name, sizeof(name), "%d", fd);
	return fdinfo_number(process, name, "flags:", 8, &flags) && (flags & (O_ACCMODE | O_PATH)) == O_RDONLY;
}

/* The text of a link below /proc/PID; false when it is none or does not fit. */
static bool read_link(int directory, const char *name, char *text, size_t size)
{
	ssize_t length = readlinkat(directory, name, text, size);

	if (length <= 0 || (size_t)length >= size)
		return false;
	text[length] = 0;
	return true;
}

bool descriptor_path(const struct process *process, int fd, char *path, size_t size)
{
	static const char deleted[] = " (deleted)";
	char name[16], root[8];

	if (!read_link(process->fd_directory, "../root", root, sizeof(root)) || strcmp(root, "/"))
		return false;
	snprintf(name, sizeof(name), fd == AT_FDCWD ? "../cwd" : "%d", fd);
	if (!read_link(process->fd_directory, name, path, size) || *path != '/')
		return false;
	size_t length = strlen(path);
	return length < sizeof(deleted) || strcmp(path + length - (sizeof(deleted) - 1), deleted) != 0;
}

bool descriptor_peer(const struct process *process, int fd, struct sockaddr_storage *peer)
{
	socklen_t length = sizeof(*peer);
	int copy = borrow(process, fd);
	bool has = copy >= 0 && !getpeername(copy, (void *)peer, &length);

	if (copy >= 0)
		close(copy);
	return has && (peer->ss_family == AF_INET || peer->ss_family == AF_INET6);
}

size_t descriptor_print_address(const struct sockaddr_storage *address, char *to, size_t size)
{
	char host[INET6_ADDRSTRLEN] = "?";

	if (address->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)address;
		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		return (size_t)snprintf(to, size, "%s:%u", host, ntohs(in->sin_port));
	}
	if (address->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)address;
		if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
			inet_ntop(AF_INET, in6->sin6_addr.s6_addr + 12, host, sizeof(host));
			return (size_t)snprintf(to, size, "%s:%u", host, ntohs(in6->sin6_port));
		}
		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		return (size_t)snprintf(to, size, "[%s]:%u", host, ntohs(in6->sin6_port));
	}
	return 0;
}

void descriptor_target(const struct process *process, int fd, char *target, size_t size)
{
	struct sockaddr_storage local = { 0 }, peer = { 0 };
	socklen_t local_length = sizeof(local), peer_length = sizeof(peer);
	char name[16];

	snprintf(name, sizeof(name), "%d", fd);
	ssize_t length = readlinkat(process->fd_directory, name, target, size - 1);
	target[length < 0 ? 0 : length] = 0;
	if (strncmp(target, "socket:", strlen("socket:")))
		return;
	int copy = borrow(process, fd);
	if (copy < 0)
		return;
	if (!getsockname(copy, (void *)&local, &local_length)) {
		size_t used = descriptor_print_address(&local, target, size);
		if (used && used + 4 < size && !getpeername(copy, (void *)&peer, &peer_length)) {
			memcpy(target + used, " < ", 4);
			descriptor_print_address(&peer, target + used + 3, size - used - 3);
		}
	}
	close(copy);
}
