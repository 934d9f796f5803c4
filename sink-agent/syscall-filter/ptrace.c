#include "ptrace.h"

#include <elf.h>
#include <errno.h>
#include <sys/uio.h>

/* Marks stops at calls (TRACESYSGOOD); children would be followed, though none can be made: seeing one is a breach. */
#define OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC)

#ifndef PTRACE_O_SUSPEND_SECCOMP
#define PTRACE_O_SUSPEND_SECCOMP (1 << 21)
#endif

/* Needs CAP_SYS_PTRACE over the container: reads and changes the registers of another user's processes. */
static int choke(enum __ptrace_request request, pid_t tid, void *address, void *data)
{
	return ptrace(request, tid, address, data) < 0 ? -errno : 0;
}

/*
 * SEIZE, unlike ATTACH, sends no SIGSTOP: the process sees nothing. A seccomp filter of its own is asked after us, and would judge a
 * cancelled call by its number, -1, which most filters answer by killing: it rests while we look, and judges the call in the VM. That
 * needs CAP_SYS_ADMIN, and a tracer that is under no such filter itself.
 */
int ptrace_seize(pid_t tid)
{
	int result = choke(PTRACE_SEIZE, tid, NULL, (void *)(uintptr_t)(OPTIONS | PTRACE_O_SUSPEND_SECCOMP));

	return result == -EPERM ? choke(PTRACE_SEIZE, tid, NULL, (void *)(uintptr_t)OPTIONS) : result;
}

int ptrace_interrupt(pid_t tid)
{
	return choke(PTRACE_INTERRUPT, tid, NULL, NULL);
}

int ptrace_resume(pid_t tid, int signal)
{
	return choke(PTRACE_SYSCALL, tid, NULL, (void *)(uintptr_t)signal);
}

int ptrace_continue(pid_t tid, int signal)
{
	return choke(PTRACE_CONT, tid, NULL, (void *)(uintptr_t)signal);
}

int ptrace_listen(pid_t tid)
{
	return choke(PTRACE_LISTEN, tid, NULL, NULL);
}

int ptrace_detach(pid_t tid, int signal)
{
	return choke(PTRACE_DETACH, tid, NULL, (void *)(uintptr_t)signal);
}

int ptrace_call_info(pid_t tid, struct __ptrace_syscall_info *info)
{
	return choke(PTRACE_GET_SYSCALL_INFO, tid, (void *)sizeof(*info), info);
}

int ptrace_event_message(pid_t tid, unsigned long *message)
{
	return choke(PTRACE_GETEVENTMSG, tid, NULL, message);
}

int ptrace_signal_info(pid_t tid, siginfo_t *info)
{
	return choke(PTRACE_GETSIGINFO, tid, NULL, info);
}

int ptrace_get_registers(pid_t tid, void *registers, size_t size)
{
	struct iovec whole = { registers, size };

	return choke(PTRACE_GETREGSET, tid, (void *)(uintptr_t)NT_PRSTATUS, &whole);
}

int ptrace_set_registers(pid_t tid, const void *registers, size_t size)
{
	struct iovec whole = { (void *)(uintptr_t)registers, size };

	return choke(PTRACE_SETREGSET, tid, (void *)(uintptr_t)NT_PRSTATUS, &whole);
}

int ptrace_get_signal_mask(pid_t tid, uint64_t *mask)
{
	return choke(PTRACE_GETSIGMASK, tid, (void *)sizeof(*mask), mask);
}

int ptrace_set_signal_mask(pid_t tid, uint64_t mask)
{
	return choke(PTRACE_SETSIGMASK, tid, (void *)sizeof(mask), &mask);
}
