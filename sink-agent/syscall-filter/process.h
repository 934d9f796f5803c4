/*
 * The set: every process of the sink and its threads, as they were when seized. No process can be added later,
 * because making one is forbidden.
 */
#ifndef PROCESS_H
#define PROCESS_H

#include "client.h"
#include "mappings.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct process {
	pid_t pid; /* on this host */
	pid_t inner_pid; /* in the container, and in the VM */
	pid_t parent; /* on this host */
	char program[16];
	int pidfd; /* to look at its descriptors without racing with a reused number */
	int fd_directory; /* /proc/PID/fd */
	struct mappings mappings; /* of files */
	struct client client; /* whom any of its threads served last */
	struct process *next;
};

/*
 *   running ⇄ stopped(status) → gone
 * A thread is `stopped` from the moment waitpid reports it until it is resumed, detached or dies.
 */
struct thread {
	pid_t tid;
	pid_t inner_tid;
	struct process *process;
	bool stopped;
	int status; /* of waitpid, when stopped */
	long last_call; /* the last call begun, restart_syscall aside; -1 unknown */
	bool accepting; /* between entry and exit of accept */
	struct receiving receiving; /* between entry and exit of a call that receives */
	struct client client; /* whom it served last */
	struct thread *next;
};

struct set {
	struct process *processes;
	struct thread *threads;
	size_t threads_count;
};

/* The thread `tid` (host number), or NULL. */
struct thread *set_thread(const struct set *set, pid_t tid);
/* Adds a thread, and its process when new. NULL with errno set when it is gone or unreadable. */
struct thread *set_add(struct set *set, pid_t tid);
/*
 * Forgets a thread that ended; its process too when it was the last one. `*ended` tells the process; its pid is -1
 * while other threads of it live.
 */
void set_remove(struct set *set, struct thread *thread, struct process *ended);
/* Whether the container knows a process or thread of that number. */
bool set_has_inner(const struct set *set, pid_t inner);
/* A signal is waiting that will be delivered before the thread runs on. Unreadable counts as true. */
bool thread_has_signal(const struct thread *thread);
/* Whether `signal` would end the process: its disposition is the default, and the default is to end. */
bool thread_dies_of(const struct thread *thread, int signal);
/* Copies the thread's memory; false when not all of it can be read. */
bool thread_memory(const struct thread *thread, uint64_t address, void *to, size_t length);

#endif
