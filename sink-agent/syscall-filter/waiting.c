#define _GNU_SOURCE
#include "waiting.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static sigset_t breaking;
static sigjmp_buf broken_off;
static volatile sig_atomic_t told_to_end;

/* Runs in waiting_for_stop() alone, between its two changes of the mask: what it jumps out of there holds nothing. */
static void on_signal(int signal)
{
	if (signal != SIGIO && signal != SIGALRM)
		told_to_end = 1;
	siglongjmp(broken_off, 1);
}

void waiting_open(void)
{
	static const int signals[] = { SIGIO, SIGALRM, SIGTERM, SIGINT, SIGHUP };

	sigemptyset(&breaking);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaddset(&breaking, signals[i]);
	sigprocmask(SIG_BLOCK, &breaking, NULL);
	/* All are blocked while one is handled, and stay so behind the jump, which leaves the mask as it is. */
	struct sigaction action = { .sa_handler = on_signal, .sa_mask = breaking };
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &action, NULL);
}

int waiting_watch(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETOWN, getpid()) || fcntl(fd, F_SETFL, flags | O_ASYNC) ? -errno : 0;
}

static void ring_in(int milliseconds)
{
	struct itimerval timer = { .it_value = { milliseconds / 1000, milliseconds % 1000 * 1000 } };

	if (milliseconds == 0)
		timer.it_value.tv_usec = 1; /* zero would stop it */
	setitimer(ITIMER_REAL, &timer, NULL);
}

bool waiting_for_stop(int milliseconds)
{
	volatile bool stop = false;
	siginfo_t unused;

	if (milliseconds >= 0)
		ring_in(milliseconds);
	if (!sigsetjmp(broken_off, 0)) {
		sigprocmask(SIG_UNBLOCK, &breaking, NULL);
		/* Not taken: a signal that comes just then would lose it. Without WSTOPPED tracees' stops count, and the guardian's don't. */
		stop = !waitid(P_ALL, 0, &unused, WEXITED | WNOWAIT | __WALL);
	}
	sigprocmask(SIG_BLOCK, &breaking, NULL);
	return stop;
}

bool waiting_told_to_end(void)
{
	return told_to_end;
}
