#define _GNU_SOURCE
#include "quiesce.h"

#include "arch.h"
#include "ptrace.h"
#include "report.h"

#include <asm/unistd.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Kernel-internal: an interrupted call that continues through restart_syscall. */
#define ERESTART_RESTARTBLOCK 516

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool quiesce_next_stop(struct filter *filter, struct thread **thread)
{
	int status;

	for (;;) {
		pid_t tid = waitpid(-1, &status, __WALL | WNOHANG);
		if (tid <= 0)
			return false;
		*thread = set_thread(&filter->set, tid);
		if (tid == filter->guardian)
			filter->guardian_died = true;
		else if (!*thread)
			log_line("an unknown thread %d stopped with status %#x", tid, (unsigned)status);
		else
			break;
	}
	if (WIFSTOPPED(status)) {
		(*thread)->stopped = true;
		(*thread)->status = status;
		return true;
	}
	set_remove(&filter->set, *thread, &filter->ended);
	if (filter->ended.pid > 0)
		report_exited(filter->ended.inner_pid, filter->ended.program, status);
	*thread = NULL;
	return true;
}

static bool all_stopped(const struct filter *filter)
{
	for (const struct thread *thread = filter->set.threads; thread; thread = thread->next)
		if (!thread->stopped)
			return false;
	return true;
}

static int await_stops(struct filter *filter, int milliseconds)
{
	long deadline = now_ms() + milliseconds;
	struct thread *thread;

	for (;;) {
		while (quiesce_next_stop(filter, &thread))
			;
		if (all_stopped(filter))
			return 0;
		long left = deadline - now_ms();
		struct pollfd event = { filter->child_events, POLLIN, 0 };
		unsigned char drained[1024];
		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(&event, 1, (int)left) > 0 && read(filter->child_events, drained, sizeof(drained)) < 0 && errno != EAGAIN)
			return -errno;
	}
}

int quiesce_gather(struct filter *filter, int milliseconds)
{
	struct thread *thread;

	/* First what is already there: a thread that waits for us needs no interruption. */
	while (quiesce_next_stop(filter, &thread))
		;
	for (thread = filter->set.threads; thread; thread = thread->next)
		if (!thread->stopped)
			ptrace_interrupt(thread->tid);
	return await_stops(filter, milliseconds);
}

static bool at_signal(const struct thread *thread)
{
	int signal = WSTOPSIG(thread->status);

	return thread->stopped && !(thread->status >> 16) && signal != (SIGTRAP | 0x80);
}

int quiesce_settle(struct thread *thread)
{
	struct __ptrace_syscall_info info;
	long nr, result;
	int error = ptrace_call_info(thread->tid, &info);

	if (error)
		return error == -ESRCH ? 0 : error;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
		nr = (long)info.entry.nr;
		/* The restored process knows nothing of what restart_syscall would continue. */
		if (nr == __NR_restart_syscall && thread->last_call >= 0)
			nr = thread->last_call;
		return arch_roll_back(thread->tid, nr);
	}
	error = at_signal(thread) ? 0 : arch_interrupted(thread->tid, &nr, &result);
	if (error || at_signal(thread) || nr < 0)
		return error == -ESRCH ? 0 : error;
	/*
	 * Other -ERESTART codes are restarted by the kernel and by CRIU alike. These two are not: CRIU turns
	 * -ERESTART_RESTARTBLOCK into EINTR, and epoll_wait returns EINTR for our interruption itself. Unless a signal really
	 * is to be delivered, the call is made anew, with its whole timeout.
	 */
	if ((result != -ERESTART_RESTARTBLOCK && result != -EINTR) || thread_has_signal(thread))
		return 0;
	if (nr == __NR_restart_syscall && thread->last_call < 0)
		return 0;
	return arch_roll_back(thread->tid, nr == __NR_restart_syscall ? thread->last_call : nr);
}

static bool is_fault(pid_t tid, int signal)
{
	siginfo_t info;

	if (signal != SIGSEGV && signal != SIGBUS && signal != SIGILL && signal != SIGFPE && signal != SIGTRAP)
		return false;
	return !ptrace_signal_info(tid, &info) && info.si_code > 0;
}

/*
 * A deadly signal has been taken from the queue and is about to act. It goes back, with all its information: the kernel
 * requeues a signal that is found blocked when the tracer delivers it. The freezer's trap comes before the next look at
 * the queue. A fault is simply dropped: its instruction will fault again.
 */
static void keep_pending(struct filter *filter, struct thread *thread, int milliseconds)
{
	int signal = WSTOPSIG(thread->status);
	uint64_t mask;

	if (!is_fault(thread->tid, signal) && !ptrace_get_signal_mask(thread->tid, &mask)) {
		ptrace_set_signal_mask(thread->tid, mask | 1ull << (signal - 1));
		thread->stopped = false;
		ptrace_continue(thread->tid, signal);
		ptrace_interrupt(thread->tid);
		if (await_stops(filter, milliseconds))
			log_line("thread %d did not stop again", thread->tid);
		ptrace_set_signal_mask(thread->tid, mask);
	}
}

/*
 * From the entry of a cancelled call to its exit, where nothing is left to be done: a seccomp filter of the process's own rests only
 * while it is traced, and would be asked about the call's number, -1, by a thread that is let go at the entry.
 */
static void leave_calls(struct filter *filter, int milliseconds)
{
	bool waits = false;

	for (struct thread *thread = filter->set.threads; thread; thread = thread->next) {
		struct __ptrace_syscall_info info;

		if (!thread->stopped || ptrace_call_info(thread->tid, &info) || info.op != PTRACE_SYSCALL_INFO_ENTRY)
			continue;
		thread->stopped = ptrace_resume(thread->tid, 0) != 0;
		waits = true;
	}
	if (waits && await_stops(filter, milliseconds))
		log_line("a thread did not leave its cancelled call");
}

void quiesce_detach(struct filter *filter, int milliseconds)
{
	leave_calls(filter, milliseconds);
	for (struct thread *thread = filter->set.threads; thread; thread = thread->next)
		if (at_signal(thread) && thread_dies_of(thread, WSTOPSIG(thread->status))) {
			keep_pending(filter, thread, milliseconds);
			thread->status = SIGTRAP << 8 | 0x7f;
			ptrace_detach(thread->tid, 0);
			thread->stopped = false;
		}
	for (struct thread *thread = filter->set.threads; thread; thread = thread->next)
		if (thread->stopped)
			ptrace_detach(thread->tid, at_signal(thread) ? WSTOPSIG(thread->status) : 0);
}
