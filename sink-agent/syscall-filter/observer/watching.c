#define _GNU_SOURCE
#include "watching.h"

#include "../arch.h"
#include "../caller.h"
#include "../client.h"
#include "../decode.h"
#include "../profile.h"
#include "../ptrace.h"
#include "../report.h"
#include "observations.h"

#include <asm/unistd.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DETACH_DEADLINE_MS 2000
#define MOST_PROCESSES 4096

struct watching {
	struct set set;
	struct descriptors descriptors;
	const struct profile *profile;
	struct observations *observations;
	/* Those that are made meanwhile could not be in a sink: making them is what would have woken the VM. */
	pid_t first[MOST_PROCESSES];
	size_t first_count;
	struct timespec start;
	long calls;
};

static int adopt(struct watching *watching, pid_t tid)
{
	if (set_thread(&watching->set, tid))
		return 0;
	if (ptrace_seize(tid))
		return -ESRCH;
	if (!set_add(&watching->set, tid)) {
		/* It has ended since; nothing to let go of. */
		return -ESRCH;
	}
	ptrace_interrupt(tid);
	return 1;
}

/* Every thread, those that are made meanwhile too. How many were new. */
static int adopt_process(struct watching *watching, pid_t pid)
{
	char path[32];
	int added = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	DIR *directory = opendir(path);
	for (struct dirent *entry; directory && (entry = readdir(directory));)
		if (entry->d_name[0] != '.' && adopt(watching, atoi(entry->d_name)) > 0)
			added++;
	if (directory)
		closedir(directory);
	return added;
}

struct watching *watching_begin(char *pids, const struct profile *profile)
{
	static struct watching only;
	struct watching *watching = &only;
	char *rest = NULL;

	if (!(watching->observations = observations_new()))
		return NULL;
	watching->profile = profile;
	clock_gettime(CLOCK_MONOTONIC, &watching->start);
	for (char *pid = strtok_r(pids, ",", &rest); pid && watching->first_count < MOST_PROCESSES; pid = strtok_r(NULL, ",", &rest)) {
		watching->first[watching->first_count++] = atoi(pid);
		while (adopt_process(watching, atoi(pid)) > 0)
			;
	}
	errno = ESRCH;
	if (!watching->set.processes || descriptors_open(&watching->descriptors, &watching->set, NULL))
		return NULL;
	return watching;
}

size_t watching_tasks(const struct watching *watching)
{
	return watching->set.threads_count;
}

long watching_milliseconds(const struct watching *watching)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - watching->start.tv_sec) * 1000 + (now.tv_nsec - watching->start.tv_nsec) / 1000000;
}

static bool was_there(const struct watching *watching, pid_t pid)
{
	for (size_t i = 0; i < watching->first_count; i++)
		if (watching->first[i] == pid)
			return true;
	return false;
}

static void judge(struct watching *watching, struct thread *thread, const struct __ptrace_syscall_info *info)
{
	if (!was_there(watching, thread->process->pid))
		return;
	struct caller caller = { .set = &watching->set, .descriptors = &watching->descriptors, .thread = thread, .fd = -1 };
	struct world world = caller_world(&caller, watching->profile);
	const uint64_t *args = (const uint64_t *)info->entry.args;
	bool native = arch_native(info->arch, info->entry.nr);
	struct decision decision = decide(&world, native, info->entry.nr, args);
	char path[PATH_MAX] = "", detail[1024];

	watching->calls++;
	if (rules[decision.rule].allowed)
		return;
	const struct call *call = native ? call_of(info->entry.nr) : NULL;
	const char *name = native ? arch_call_name(info->entry.nr) : NULL;
	const char *effect = call ? profile_effect(&world, call, args, path) : NULL;
	decode_call(&world, native, info->entry.nr, args, detail, sizeof(detail));
	if (!effect && decision.fd >= 0) {
		descriptor_target(thread->process, decision.fd, path, sizeof(path));
		/* The number of a socket says nothing, and a new one each time would make each call another. */
		if (*path != '/')
			*path = 0;
	}
	struct observation seen = { .program = thread->process->program, .call = name ? name : "unknown", .path = path,
		.effect = effect, .detail = detail, .rule = decision.rule, .pid = thread->process->inner_pid };
	observations_note(watching->observations, &seen, watching_milliseconds(watching));
}

/*
 * A call that our interruption made fail is made anew; those that the kernel restarts itself are left to it. Unless a signal is due,
 * EINTR is from us.
 */
static void mend(const struct thread *thread)
{
	long nr, result;

	if (!arch_interrupted(thread->tid, &nr, &result) && nr >= 0 && result == -EINTR && !thread_has_signal(thread))
		arch_roll_back(thread->tid, nr);
}

static void on_exec(struct watching *watching, struct thread *thread)
{
	pid_t pid = thread->process->pid;
	struct process ended;

	/* The program and its descriptors are others, and of its threads only this one is left. */
	for (struct thread *other = watching->set.threads, *next; other; other = next) {
		next = other->next;
		if (other->process->pid == pid)
			set_remove(&watching->set, other, &ended);
	}
	set_add(&watching->set, pid);
	ptrace_resume(pid, 0);
}

static void on_stop(struct watching *watching, struct thread *thread, int status)
{
	int signal = WSTOPSIG(status), event = status >> 16;
	struct __ptrace_syscall_info info;
	unsigned long made;

	if (event == PTRACE_EVENT_EXEC) {
		on_exec(watching, thread);
	} else if (event == PTRACE_EVENT_STOP && signal != SIGTRAP) {
		ptrace_listen(thread->tid);
	} else if (event) {
		/* The kernel has seized what it made for us; it belongs to the set before anybody can meet it. */
		if (event != PTRACE_EVENT_STOP && !ptrace_event_message(thread->tid, &made) && !set_thread(&watching->set, (pid_t)made))
			set_add(&watching->set, (pid_t)made);
		if (event == PTRACE_EVENT_STOP)
			mend(thread);
		ptrace_resume(thread->tid, 0);
	} else if (signal == (SIGTRAP | 0x80)) {
		if (!ptrace_call_info(thread->tid, &info) && info.op == PTRACE_SYSCALL_INFO_ENTRY)
			judge(watching, thread, &info);
		ptrace_resume(thread->tid, 0);
	} else {
		ptrace_resume(thread->tid, signal);
	}
}

/* The next thread that has stopped; NULL when there is none. Those that have ended are forgotten. */
static struct thread *next_stop(struct watching *watching, int *status)
{
	struct process ended;
	pid_t tid;

	while ((tid = waitpid(-1, status, __WALL | WNOHANG)) > 0) {
		struct thread *thread = set_thread(&watching->set, tid);
		if (!WIFSTOPPED(*status)) {
			if (thread)
				set_remove(&watching->set, thread, &ended);
			continue;
		}
		/* Its maker's event is still to come. */
		if (!thread)
			thread = set_add(&watching->set, tid);
		if (thread)
			return thread;
		ptrace_detach(tid, 0);
	}
	return NULL;
}

void watching_handle_stops(struct watching *watching)
{
	struct thread *thread;
	int status;

	while ((thread = next_stop(watching, &status)))
		on_stop(watching, thread, status);
}

void watching_print_kinds(struct watching *watching)
{
	for (const struct process *process = watching->set.processes; process; process = process->next) {
		int copy = openat(process->fd_directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		DIR *directory = copy < 0 ? NULL : fdopendir(copy);
		const char *separator = "";
		printf("{\"event\":\"kinds\",\"pid\":%d,\"kinds\":{", process->inner_pid);
		for (struct dirent *entry; directory && (entry = readdir(directory));) {
			if (entry->d_name[0] == '.')
				continue;
			printf("%s\"%s\":\"%s\"", separator, entry->d_name,
			       kind_names[descriptor_kind(&watching->descriptors, process, atoi(entry->d_name))]);
			separator = ",";
		}
		if (directory)
			closedir(directory);
		printf("}}\n");
	}
	printf("{\"event\":\"kinds-end\"}\n");
}

static void let_go(struct watching *watching, struct thread *thread, int status)
{
	int signal = WSTOPSIG(status), event = status >> 16;
	struct __ptrace_syscall_info info;
	struct process ended;
	bool at_call = !event && signal == (SIGTRAP | 0x80);

	/* A call that is about to begin just begins. */
	if ((event == PTRACE_EVENT_STOP && signal == SIGTRAP) ||
	    (at_call && !ptrace_call_info(thread->tid, &info) && info.op == PTRACE_SYSCALL_INFO_EXIT))
		mend(thread);
	/* A signal that was about to be delivered still is; a stop by job control stays one. */
	ptrace_detach(thread->tid, event || at_call ? 0 : signal);
	set_remove(&watching->set, thread, &ended);
}

int watching_end(struct watching *watching, int child_events)
{
	long began = watching_milliseconds(watching), left = DETACH_DEADLINE_MS;
	struct thread *thread;
	int status;

	for (thread = watching->set.threads; thread; thread = thread->next)
		ptrace_interrupt(thread->tid);
	while (watching->set.threads && left > 0) {
		while ((thread = next_stop(watching, &status)))
			let_go(watching, thread, status);
		struct pollfd event = { child_events, POLLIN, 0 };
		unsigned char drained[1024];
		if (watching->set.threads && poll(&event, 1, left < 50 ? (int)left : 50) > 0 &&
		    read(child_events, drained, sizeof(drained)) < 0 && errno != EAGAIN)
			break;
		left = began + DETACH_DEADLINE_MS - watching_milliseconds(watching);
	}
	observations_print(watching->observations);
	printf("{\"event\":\"done\",\"calls\":%ld,\"ms\":%ld}\n", watching->calls, began);
	/* What has not stopped is let go by the kernel when we end. */
	return 0;
}
