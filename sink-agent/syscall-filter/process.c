#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* One line of /proc/TID/status: the text behind `key`, in `value`. */
static bool status_line(pid_t tid, const char *key, char *value, size_t size)
{
	char path[32], line[256];
	size_t length = strlen(key);
	bool found = false;

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file)) {
		found = !strncmp(line, key, length) && line[length] == ':';
		if (found)
			snprintf(value, size, "%s", line + length + 1);
	}
	fclose(file);
	return found;
}

/* The last number of a line: for NSpid the one in the innermost namespace. */
static pid_t innermost(pid_t tid, const char *key)
{
	char value[256];

	if (!status_line(tid, key, value, sizeof(value)))
		return -1;
	value[strcspn(value, "\n")] = 0;
	char *last = strrchr(value, '\t');
	return atoi(last ? last + 1 : value);
}

static uint64_t signal_set(pid_t tid, const char *key)
{
	char value[64];

	return status_line(tid, key, value, sizeof(value)) ? strtoull(value, NULL, 16) : ~0ull;
}

struct thread *set_thread(const struct set *set, pid_t tid)
{
	struct thread *thread = set->threads;

	while (thread && thread->tid != tid)
		thread = thread->next;
	return thread;
}

static void process_free(struct process *process)
{
	if (process->pidfd >= 0)
		close(process->pidfd);
	if (process->fd_directory >= 0)
		close(process->fd_directory);
	mappings_free(&process->mappings);
	free(process);
}

static struct process *process_open(pid_t pid)
{
	struct process *process = calloc(1, sizeof(*process));
	char path[32];

	if (!process)
		return NULL;
	errno = 0;
	process->pid = pid;
	process->inner_pid = innermost(pid, "NSpid");
	process->parent = innermost(pid, "PPid");
	process->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	process->fd_directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	int comm = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = comm < 0 ? -1 : read(comm, process->program, sizeof(process->program) - 1);
	if (comm >= 0)
		close(comm);
	int unread = mappings_read(&process->mappings, pid);
	if (length <= 0 || process->pidfd < 0 || process->fd_directory < 0 || unread) {
		/* Gone is one thing; alive and unreadable another, which nobody must take for it. */
		int error = unread ? -unread : errno;
		process_free(process);
		errno = error == 0 || error == ENOENT ? ESRCH : error;
		return NULL;
	}
	process->program[strcspn(process->program, "\n")] = 0;
	return process;
}

struct thread *set_add(struct set *set, pid_t tid)
{
	pid_t pid = innermost(tid, "Tgid");
	struct process *process = set->processes;
	struct thread *thread = calloc(1, sizeof(*thread));

	while (process && process->pid != pid)
		process = process->next;
	if (thread && pid > 0 && !process) {
		process = process_open(pid);
		if (process) {
			process->next = set->processes;
			set->processes = process;
		}
	}
	if (!thread || pid <= 0 || !process) {
		int error = !thread ? ENOMEM : pid <= 0 ? ESRCH : errno;
		free(thread);
		errno = error;
		return NULL;
	}
	*thread = (struct thread){ .tid = tid, .inner_tid = innermost(tid, "NSpid"), .process = process, .last_call = -1,
		.next = set->threads };
	set->threads = thread;
	set->threads_count++;
	return thread;
}

void set_remove(struct set *set, struct thread *thread, struct process *ended)
{
	struct process *process = thread->process;

	for (struct thread **link = &set->threads; *link; link = &(*link)->next)
		if (*link == thread) {
			*link = thread->next;
			break;
		}
	free(thread);
	set->threads_count--;
	*ended = *process;
	ended->pid = -1;
	for (struct thread *other = set->threads; other; other = other->next)
		if (other->process == process)
			return;
	*ended = *process;
	for (struct process **link = &set->processes; *link; link = &(*link)->next)
		if (*link == process) {
			*link = process->next;
			break;
		}
	process_free(process);
}

bool set_has_inner(const struct set *set, pid_t inner)
{
	for (const struct thread *thread = set->threads; thread; thread = thread->next)
		if (thread->inner_tid == inner)
			return true;
	return false;
}

bool thread_has_signal(const struct thread *thread)
{
	uint64_t pending = signal_set(thread->tid, "SigPnd") | signal_set(thread->tid, "ShdPnd");

	return (pending & ~signal_set(thread->tid, "SigBlk")) != 0;
}

bool thread_dies_of(const struct thread *thread, int signal)
{
	if (signal == SIGKILL)
		return true;
	if (signal == SIGCHLD || signal == SIGCONT || signal == SIGURG || signal == SIGWINCH)
		return false;
	if (signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU)
		return false;
	uint64_t bit = 1ull << (signal - 1);
	return !(signal_set(thread->tid, "SigCgt") & bit) && !(signal_set(thread->tid, "SigIgn") & bit);
}

bool thread_memory(const struct thread *thread, uint64_t address, void *to, size_t length)
{
	struct iovec here = { to, length }, there = { (void *)(uintptr_t)address, length };

	return process_vm_readv(thread->tid, &here, 1, &there, 1, 0) == (ssize_t)length;
}
