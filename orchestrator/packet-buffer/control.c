#define _GNU_SOURCE
#include "control.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct client {
	int fd; /* -1: free */
	bool watches;
	size_t length;
	char line[4096];
};

static int listener = -1;
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static struct client clients[CONTROL_CLIENTS];
static control_handler on_line;

/* A socket file may be left by one that was killed: only when nobody answers there is it taken over. */
static bool somebody_listens(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool answered = fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof(address));
	if (fd >= 0)
		close(fd);
	return answered;
}

int control_open(const char *path, control_handler handler)
{
	on_line = handler;
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		clients[i].fd = -1;
	if (strlen(path) >= sizeof(address.sun_path)) {
		fprintf(stderr, "packet-buffer: expected a socket path under %zu bytes, got %s\n",
			sizeof(address.sun_path), path);
		return -1;
	}
	strcpy(address.sun_path, path);
	if (somebody_listens()) {
		fprintf(stderr, "packet-buffer: another one listens on %s\n", path);
		return -1;
	}
	unlink(path);
	umask(077);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 8)) {
		fprintf(stderr, "packet-buffer: can't listen on %s: %s\n", path, strerror(errno));
		return -1;
	}
	return 0;
}

void control_prepare(struct pollfd *fds)
{
	bool room = false;
	for (int i = 0; i < CONTROL_CLIENTS; i++) {
		fds[i] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
		room |= clients[i].fd < 0;
	}
	fds[CONTROL_CLIENTS] = (struct pollfd){.fd = room ? listener : -1, .events = POLLIN};
}

static void drop_client(struct client *client)
{
	close(client->fd);
	client->fd = -1;
	client->watches = false;
}

static void accept_client(void)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	for (int i = 0; i < CONTROL_CLIENTS; i++) {
		if (clients[i].fd >= 0)
			continue;
		clients[i] = (struct client){.fd = fd};
		return;
	}
	close(fd);
}

static void read_client(int index)
{
	struct client *client = &clients[index];
	ssize_t n = recv(client->fd, client->line + client->length, sizeof(client->line) - client->length, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop_client(client);
		return;
	}
	client->length += (size_t)n;
	char *end;
	while (client->fd >= 0 && (end = memchr(client->line, '\n', client->length))) {
		size_t used = (size_t)(end - client->line) + 1;
		char line[sizeof(client->line)];
		memcpy(line, client->line, used);
		line[used - 1] = '\0';
		client->length -= used;
		memmove(client->line, client->line + used, client->length);
		on_line(index, line);
	}
	if (client->fd >= 0 && client->length == sizeof(client->line)) {
		control_reply(index, "{\"error\":\"expected a line under %zu bytes\"}", sizeof(client->line));
		drop_client(client);
	}
}

void control_handle(const struct pollfd *fds)
{
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		if (fds[i].fd >= 0 && fds[i].revents)
			read_client(i);
	if (fds[CONTROL_CLIENTS].revents)
		accept_client();
}

static void send_line(int client, const char *format, va_list arguments)
{
	char line[1024];
	int length = vsnprintf(line, sizeof(line) - 1, format, arguments);
	if (length >= (int)sizeof(line) - 1)
		length = sizeof(line) - 2;
	line[length++] = '\n';
	/* Lines are short: a client that does not read them is dropped. */
	if (send(clients[client].fd, line, (size_t)length, MSG_NOSIGNAL) != length)
		drop_client(&clients[client]);
}

void control_reply(int client, const char *format, ...)
{
	if (client < 0 || clients[client].fd < 0)
		return;
	va_list arguments;
	va_start(arguments, format);
	send_line(client, format, arguments);
	va_end(arguments);
}

void control_watch(int client)
{
	clients[client].watches = true;
}

void control_tell(const char *format, ...)
{
	for (int i = 0; i < CONTROL_CLIENTS; i++) {
		if (clients[i].fd < 0 || !clients[i].watches)
			continue;
		va_list arguments;
		va_start(arguments, format);
		send_line(i, format, arguments);
		va_end(arguments);
	}
}

void control_close(void)
{
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		if (clients[i].fd >= 0)
			drop_client(&clients[i]);
	close(listener);
	unlink(address.sun_path);
}
