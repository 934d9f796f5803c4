#define _GNU_SOURCE
#include "trigger.h"

#include "arch.h"
#include "decode.h"
#include "report.h"

#include <asm/unistd.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct caller {
	struct filter *filter;
	struct thread *thread;
};

static enum kind world_kind(void *self, int fd)
{
	struct caller *caller = self;

	return descriptor_kind(&caller->filter->descriptors, caller->thread->process, fd);
}

static bool world_readable(void *self, int fd)
{
	return descriptor_readable(((struct caller *)self)->thread->process, fd);
}

static bool world_in_set(void *self, int pid)
{
	return set_has_inner(&((struct caller *)self)->filter->set, pid);
}

static bool world_memory(void *self, uint64_t address, void *to, size_t length)
{
	return thread_memory(((struct caller *)self)->thread, address, to, length);
}

static struct world world_of(struct caller *caller)
{
	return (struct world){ .self = caller, .kind = world_kind, .readable = world_readable, .in_set = world_in_set,
		.memory = world_memory, .pid = caller->thread->process->inner_pid };
}

static long microseconds_since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - start->tv_sec) * 1000000 + (now.tv_nsec - start->tv_nsec) / 1000;
}

/* Nothing else may start meanwhile, so the freezer comes first. */
static void announce(struct caller *caller, struct trigger *trigger, const struct timespec *start)
{
	char target[512] = "";

	cgroup_freeze(caller->filter->cgroup);
	if (trigger->fd >= 0) {
		trigger->fd_kind = kind_names[world_kind(caller, trigger->fd)];
		descriptor_target(caller->thread->process, trigger->fd, target, sizeof(target));
		trigger->fd_target = target;
	}
	trigger->inner_pid = caller->thread->process->inner_pid;
	trigger->inner_tid = caller->thread->inner_tid;
	trigger->program = caller->thread->process->program;
	report_trigger(trigger, microseconds_since(start));
}

bool trigger_at_entry(struct filter *filter, struct thread *thread, uint32_t audit_arch, uint64_t nr, const uint64_t *args)
{
	struct caller caller = { filter, thread };
	struct world world = world_of(&caller);
	bool native = arch_native(audit_arch, nr);
	struct timespec start;

	clock_gettime(CLOCK_MONOTONIC, &start);
	struct decision decision = decide(&world, native, nr, args);
	if (rules[decision.rule].allowed) {
		thread->accepting = decision.rule == RULE_CONNECTION_ACCEPT;
		if (nr != __NR_restart_syscall)
			thread->last_call = (long)nr;
		return false;
	}
	char detail[1024], call[768];
	const char *name = native ? arch_call_name(nr) : NULL;
	decode_call(&world, native, nr, args, call, sizeof(call));
	snprintf(detail, sizeof(detail), "%s: %s", call, rules[decision.rule].reason);
	struct trigger trigger = { .call_name = name ? name : "unknown", .nr = nr, .rule = decision.rule, .detail = detail,
		.fd = decision.fd };
	memcpy(trigger.args, args, sizeof(trigger.args));
	/* The call itself is cancelled with all others, when the threads are settled (quiesce.c). */
	announce(&caller, &trigger, &start);
	return true;
}

bool trigger_at_exit(struct filter *filter, struct thread *thread, long result)
{
	struct caller caller = { filter, thread };
	struct timespec start;

	if (!thread->accepting)
		return false;
	thread->accepting = false;
	if (result < 0 || !filter->accept_triggers)
		return false;
	clock_gettime(CLOCK_MONOTONIC, &start);
	char detail[256];
	snprintf(detail, sizeof(detail), "accept() = %ld: %s", result, rules[RULE_CONNECTION_NEW].reason);
	struct trigger trigger = { .call_name = "accept", .nr = (uint64_t)thread->last_call, .rule = RULE_CONNECTION_NEW,
		.detail = detail, .fd = (int)result };
	announce(&caller, &trigger, &start);
	return true;
}

bool trigger_by_signal(struct filter *filter, struct thread *thread, int signal)
{
	struct caller caller = { filter, thread };
	struct timespec start;
	char detail[256];

	clock_gettime(CLOCK_MONOTONIC, &start);
	const char *name = sigabbrev_np(signal);
	snprintf(detail, sizeof(detail), "SIG%s: %s", name ? name : "?", rules[RULE_SIGNAL_FATAL].reason);
	struct trigger trigger = { .call_name = "", .nr = (uint64_t)-1, .rule = RULE_SIGNAL_FATAL, .detail = detail, .fd = -1 };
	announce(&caller, &trigger, &start);
	return true;
}

bool trigger_by_death(struct filter *filter)
{
	struct trigger trigger = { .inner_pid = filter->ended.inner_pid, .inner_tid = filter->ended.inner_pid,
		.program = filter->ended.program, .call_name = "", .nr = (uint64_t)-1, .rule = RULE_PROCESS_KILLED,
		.detail = rules[RULE_PROCESS_KILLED].reason, .fd = -1 };

	cgroup_freeze(filter->cgroup);
	report_trigger(&trigger, 0);
	return true;
}

bool trigger_breach(struct filter *filter, struct thread *thread, int event)
{
	cgroup_freeze(filter->cgroup);
	log_line("thread %d made trace event %d, which no rule allows", thread->tid, event);
	report_error("breach", 0);
	return true;
}
