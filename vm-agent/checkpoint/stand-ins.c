/*
 * stand-ins [--ns FILE]… CGROUP…: starts one sleeping process in each of these cgroup v2 directories, in the namespaces of these files
 * (/proc/PID/ns/mnt), prints their PIDs in the same order, and ends; the sleepers go on. One small program instead of `sleep` and `nsenter` a
 * dozen times: under emulation each start counts. The cgroups are entered from here: in a unit's own mounts they may be read-only.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *what)
{
	fprintf(stderr, "stand-ins: %s: %s\n", what, strerror(errno));
	return 1;
}

static int move_to(const char *cgroup, pid_t pid)
{
	char path[4096];
	char text[16];
	if (snprintf(path, sizeof path, "%s/cgroup.procs", cgroup) >= (int)sizeof path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int length = snprintf(text, sizeof text, "%d", (int)pid);
	int written = write(fd, text, (size_t)length) == length ? 0 : -1;
	int error = errno;
	close(fd);
	errno = error;
	return written;
}

enum { MAX_NAMESPACES = 8 };

struct place {
	int namespaces[MAX_NAMESPACES];
	int count;
};

static int open_namespace(struct place *place, const char *path)
{
	if (place->count == MAX_NAMESPACES) {
		errno = E2BIG;
		return -1;
	}
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	place->namespaces[place->count++] = fd;
	return 0;
}

static int enter(const struct place *place)
{
	for (int index = 0; index < place->count; index++)
		if (setns(place->namespaces[index], 0) < 0)
			return -1;
	return 0;
}

/* A session of its own, nothing open, the signals as they are at the start of a program. */
static void sleep_for_ever(void)
{
	setsid();
	close_range(0, ~0U, 0);
	for (int signal_number = 1; signal_number < NSIG; signal_number++)
		signal(signal_number, SIG_DFL);
	for (;;)
		pause();
}

/* Starts a sleeper; returns when it is where it belongs. */
static int start(const struct place *place, const char *cgroup)
{
	int arrived[2];
	if (pipe2(arrived, O_CLOEXEC) < 0)
		return fail("pipe");
	pid_t pid = fork();
	if (pid < 0)
		return fail("fork");
	if (pid == 0) {
		int error = enter(place) < 0 ? errno : 0;
		if (write(arrived[1], &error, sizeof error) != sizeof error || error)
			_exit(1);
		sleep_for_ever();
	}
	close(arrived[1]);
	/* Said before anything can fail, so that the caller can end it. */
	printf("%d\n", (int)pid);
	fflush(stdout);
	int error = 0;
	ssize_t length = read(arrived[0], &error, sizeof error);
	close(arrived[0]);
	if (length != sizeof error || error) {
		errno = error ? error : EPIPE;
		return fail("namespaces");
	}
	return move_to(cgroup, pid) < 0 ? fail(cgroup) : 0;
}

int main(int argc, char **argv)
{
	struct place place = { .count = 0 };
	int first = 1;
	for (; first + 1 < argc && strcmp(argv[first], "--ns") == 0; first += 2)
		if (open_namespace(&place, argv[first + 1]) < 0)
			return fail(argv[first + 1]);
	if (first >= argc) {
		fprintf(stderr, "usage: stand-ins [--ns FILE]… CGROUP…\n");
		return 2;
	}
	if (chdir("/") < 0)
		return fail("/");
	for (int index = first; index < argc; index++) {
		int failed = start(&place, argv[index]);
		if (failed)
			return failed;
	}
	return 0;
}
