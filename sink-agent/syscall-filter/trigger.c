#define _GNU_SOURCE
#include "trigger.h"

#include "arch.h"
#include "caller.h"
#include "decode.h"
#include "ptrace.h"
#include "report.h"

#include <asm/unistd.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static struct caller caller_of(struct filter *filter, struct thread *thread)
{
	return (struct caller){ .set = &filter->set, .descriptors = &filter->descriptors, .thread = thread, .fd = -1 };
}

static long microseconds_since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - start->tv_sec) * 1000000 + (now.tv_nsec - start->tv_nsec) / 1000;
}

/* Nothing else may start meanwhile, so the freezer comes first. */
static void announce(struct filter *filter, struct thread *thread, struct trigger *trigger, const struct timespec *start)
{
	char target[512] = "", client[80];

	cgroup_freeze(filter->cgroup);
	if (trigger->fd >= 0) {
		trigger->fd_kind = kind_names[descriptor_kind(&filter->descriptors, thread->process, trigger->fd)];
		descriptor_target(thread->process, trigger->fd, target, sizeof(target));
		trigger->fd_target = target;
	}
	trigger->client = client_of(&filter->set, thread, client, sizeof(client)) ? client : NULL;
	trigger->inner_pid = thread->process->inner_pid;
	trigger->inner_tid = thread->inner_tid;
	trigger->program = thread->process->program;
	report_trigger(trigger, microseconds_since(start));
}

bool trigger_at_entry(struct filter *filter, struct thread *thread, uint32_t audit_arch, uint64_t nr, const uint64_t *args)
{
	struct caller caller = caller_of(filter, thread);
	struct world world = caller_world(&caller, filter->profile);
	bool native = arch_native(audit_arch, nr);
	struct timespec start;

	clock_gettime(CLOCK_MONOTONIC, &start);
	struct decision decision = decide(&world, native, nr, args);
	if (rules[decision.rule].allowed) {
		thread->accepting = decision.rule == RULE_CONNECTION_ACCEPT;
		if (nr != __NR_restart_syscall)
			thread->last_call = (long)nr;
		if (decision.fd >= 0 && decision.fd == caller.fd)
			client_at_entry(thread, (long)nr, args, caller.fd, caller.kind);
		return false;
	}
	/* Killed meanwhile: what we looked at was already being taken down. It makes no call; its end is the trigger. */
	struct __ptrace_syscall_info still;
	if (ptrace_call_info(thread->tid, &still) == -ESRCH)
		return false;
	char detail[1024], call[768];
	const char *name = native ? arch_call_name(nr) : NULL;
	decode_call(&world, native, nr, args, call, sizeof(call));
	snprintf(detail, sizeof(detail), "%s: %s", call, rules[decision.rule].reason);
	struct trigger trigger = { .call_name = name ? name : "unknown", .nr = nr, .rule = decision.rule, .detail = detail,
		.fd = decision.fd };
	memcpy(trigger.args, args, sizeof(trigger.args));
	/* The call itself is cancelled with all others, when the threads are settled (quiesce.c). */
	announce(filter, thread, &trigger, &start);
	return true;
}

bool trigger_at_exit(struct filter *filter, struct thread *thread, long result)
{
	struct timespec start;

	client_at_exit(thread, result);
	if (!thread->accepting)
		return false;
	thread->accepting = false;
	if (result < 0)
		return false;
	if (filter->gate && gate_accepted(filter->gate, thread->process, (int)result))
		return false;
	if (!filter->accept_triggers)
		return false;
	clock_gettime(CLOCK_MONOTONIC, &start);
	char detail[256];
	snprintf(detail, sizeof(detail), "accept() = %ld: %s", result, rules[RULE_CONNECTION_NEW].reason);
	struct trigger trigger = { .call_name = "accept", .nr = (uint64_t)thread->last_call, .rule = RULE_CONNECTION_NEW,
		.detail = detail, .fd = (int)result };
	announce(filter, thread, &trigger, &start);
	return true;
}

bool trigger_by_signal(struct filter *filter, struct thread *thread, int signal)
{
	struct timespec start;
	char detail[256];

	clock_gettime(CLOCK_MONOTONIC, &start);
	const char *name = sigabbrev_np(signal);
	snprintf(detail, sizeof(detail), "SIG%s: %s", name ? name : "?", rules[RULE_SIGNAL_FATAL].reason);
	struct trigger trigger = { .call_name = "", .nr = (uint64_t)-1, .rule = RULE_SIGNAL_FATAL, .detail = detail, .fd = -1 };
	announce(filter, thread, &trigger, &start);
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

bool trigger_by_check(struct filter *filter, const char *who)
{
	char detail[256];

	snprintf(detail, sizeof(detail), "%s: %s", who, rules[RULE_CONNECTION_CHECK].reason);
	struct trigger trigger = { .program = "connect-check", .call_name = "", .nr = (uint64_t)-1, .rule = RULE_CONNECTION_CHECK,
		.detail = detail, .fd = -1 };
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
