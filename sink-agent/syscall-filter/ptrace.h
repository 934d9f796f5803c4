/*
 * The one place that calls ptrace(2). Everything returns 0 or a negative errno; -ESRCH means that the thread is
 * gone or not stopped.
 */
#ifndef FILTER_PTRACE_H
#define FILTER_PTRACE_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/types.h>

int ptrace_seize(pid_t tid);
int ptrace_interrupt(pid_t tid);
/* Lets a stopped thread run up to the next system call entry or exit, delivering `signal` (0: none). */
int ptrace_resume(pid_t tid, int signal);
/* Lets a stopped thread run without stopping at calls. */
int ptrace_continue(pid_t tid, int signal);
/* Leaves a thread in its job-control stop, and hears of SIGCONT. */
int ptrace_listen(pid_t tid);
int ptrace_detach(pid_t tid, int signal);
/* `info->op` says whether the stop is a call's entry, its exit or neither. */
int ptrace_call_info(pid_t tid, struct __ptrace_syscall_info *info);
/* Of a stop by an event: the new thread's number, for one. */
int ptrace_event_message(pid_t tid, unsigned long *message);
int ptrace_signal_info(pid_t tid, siginfo_t *info);
int ptrace_get_registers(pid_t tid, void *registers, size_t size);
int ptrace_set_registers(pid_t tid, const void *registers, size_t size);
int ptrace_get_signal_mask(pid_t tid, uint64_t *mask);
int ptrace_set_signal_mask(pid_t tid, uint64_t mask);

#endif
