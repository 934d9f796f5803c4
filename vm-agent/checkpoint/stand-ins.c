/*
 * stand-ins CGROUP…: starts one sleeping process in each of these cgroup v2 directories, prints their PIDs in the same order, and
 * ends; the sleepers go on. One small program instead of `sleep` a dozen times: under emulation each start counts.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
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

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: stand-ins CGROUP…\n");
		return 2;
	}
	if (chdir("/") < 0)
		return fail("/");
	for (int index = 1; index < argc; index++) {
		pid_t pid = fork();
		if (pid < 0)
			return fail("fork");
		if (pid == 0)
			sleep_for_ever();
		/* Said before anything can fail, so that the caller can end it. */
		printf("%d\n", (int)pid);
		fflush(stdout);
		if (move_to(argv[index], pid) < 0)
			return fail(argv[index]);
	}
	return 0;
}
