/*
 * notify-as PID MESSAGE [PID MESSAGE]…: sends each MESSAGE to systemd in the name of process PID, and returns once systemd has
 * handled them all. A message that can't be sent does not keep the others back.
 *
 * systemd takes the change of a unit's main process from the present main process only (NotifyAccess=main, as in the packaged
 * ssh.service). systemd-notify --pid comes close, but it adds the sender's own MAINPIDFDID, with which systemd then refuses
 * another MAINPID. Needs CAP_SYS_ADMIN: the kernel lets nobody else send with another's credentials.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { HANDLED_TIMEOUT_MS = 5000 };

static int fail(const char *what)
{
	fprintf(stderr, "notify-as: %s: %s\n", what, strerror(errno));
	return 1;
}

/* Sends text with one ancillary item; returns whether all of it went. */
static int send_with(int fd, const char *text, int type, const void *item, size_t item_size)
{
	union {
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} control;
	struct iovec data = {.iov_base = (void *)text, .iov_len = strlen(text)};
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = CMSG_SPACE(item_size),
	};
	memset(&control, 0, sizeof control);
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = type;
	header->cmsg_len = CMSG_LEN(item_size);
	memcpy(CMSG_DATA(header), item, item_size);
	return sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)data.iov_len;
}

/* systemd closes the descriptor of a BARRIER message after all that was sent before it (sd_notify_barrier(3)). */
static int await_handled(int fd)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return fail("pipe");
	if (!send_with(fd, "BARRIER=1", SCM_RIGHTS, &ends[1], sizeof ends[1]))
		return fail("sending the barrier");
	close(ends[1]);
	struct pollfd closed = {.fd = ends[0], .events = 0};
	int ready = poll(&closed, 1, HANDLED_TIMEOUT_MS);
	if (ready < 0)
		return fail("poll");
	if (ready == 0) {
		errno = ETIMEDOUT;
		return fail("waiting for systemd");
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 3 || argc % 2 == 0) {
		fprintf(stderr, "usage: notify-as PID MESSAGE [PID MESSAGE]…\n");
		return 2;
	}
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (path == NULL || path[0] != '/' || strlen(path) >= sizeof address.sun_path) {
		fprintf(stderr, "notify-as: expected the path of a socket in NOTIFY_SOCKET\n");
		return 2;
	}
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fail("socket");
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		return fail(path);
	int status = 0;
	for (int index = 1; index + 1 < argc; index += 2) {
		struct ucred credentials = {.pid = (pid_t)strtol(argv[index], NULL, 10), .uid = 0, .gid = 0};
		if (!send_with(fd, argv[index + 1], SCM_CREDENTIALS, &credentials, sizeof credentials))
			status = fail(argv[index]);
	}
	return await_handled(fd) || status;
}
