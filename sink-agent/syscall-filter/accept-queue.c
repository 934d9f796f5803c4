#define _GNU_SOURCE
#include "accept-queue.h"

#include "report.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int borrow_socket(const struct process *process, int fd)
{
	return (int)syscall(SYS_pidfd_getfd, process->pidfd, fd, 0);
}

bool socket_local(int socket, struct address *local)
{
	struct sockaddr_storage address = { 0 };
	socklen_t length = sizeof(address);

	return !getsockname(socket, (void *)&address, &length) && address_read(&address, local);
}

/* Closed in repair mode a connection goes without a word: the client has never heard of it. */
static void take_out(int connection)
{
	int on = 1;

	if (setsockopt(connection, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)))
		log_line("a connection could not be ended silently: %s", strerror(errno));
	close(connection);
}

/* The listener, when `fd` is one of those chosen, or -1. */
static int borrow_listener(const struct process *process, int fd, port_choice chosen, void *self)
{
	struct address local;
	int listening = 0, copy = borrow_socket(process, fd);
	socklen_t length = sizeof(listening);

	if (copy >= 0 && !getsockopt(copy, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) && listening &&
	    socket_local(copy, &local) && chosen(self, ntohs(local.port)))
		return copy;
	if (copy >= 0)
		close(copy);
	return -1;
}

static void each_listener(const struct set *set, port_choice chosen, void *self, void (*visit)(int listener))
{
	for (const struct process *process = set->processes; process; process = process->next) {
		int own = openat(process->fd_directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		DIR *directory = own < 0 ? NULL : fdopendir(own);
		struct dirent *entry;
		struct stat status;
		while (directory && (entry = readdir(directory))) {
			if (entry->d_name[0] == '.' || fstatat(process->fd_directory, entry->d_name, &status, 0) || !S_ISSOCK(status.st_mode))
				continue;
			int listener = borrow_listener(process, atoi(entry->d_name), chosen, self);
			if (listener < 0)
				continue;
			visit(listener);
			close(listener);
		}
		if (directory)
			closedir(directory);
	}
}

/* Asks before each one: the listener may be a blocking one, and its flags are the program's. */
static void empty_queue(int listener)
{
	struct pollfd waiting = { listener, POLLIN, 0 };
	int connection;

	while (poll(&waiting, 1, 0) > 0 && (connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		take_out(connection);
}

/* A listener that waits for a client's first bytes would wait for ever: before its SYN+ACK a client sends none. */
static void prepare_listener(int listener)
{
	int off = 0;

	setsockopt(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &off, sizeof(off));
	empty_queue(listener);
}

void accept_queues_empty(const struct set *set, port_choice chosen, void *self)
{
	each_listener(set, chosen, self, empty_queue);
}

void accept_queues_prepare(const struct set *set, port_choice chosen, void *self)
{
	each_listener(set, chosen, self, prepare_listener);
}
