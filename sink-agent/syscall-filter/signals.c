#define _GNU_SOURCE
#include "signals.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

int signals_open(void)
{
	sigset_t handled;

	sigemptyset(&handled);
	sigaddset(&handled, SIGCHLD);
	sigaddset(&handled, SIGTERM);
	sigaddset(&handled, SIGINT);
	sigaddset(&handled, SIGHUP);
	sigprocmask(SIG_BLOCK, &handled, NULL);
	return signalfd(-1, &handled, SFD_NONBLOCK | SFD_CLOEXEC);
}

bool signals_tell_to_end(int signals)
{
	struct signalfd_siginfo taken[8];
	ssize_t length = read(signals, taken, sizeof(taken));

	for (ssize_t i = 0; i < length / (ssize_t)sizeof(taken[0]); i++)
		if (taken[i].ssi_signo != SIGCHLD)
			return true;
	return false;
}
