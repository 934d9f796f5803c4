#define _GNU_SOURCE
#include "filter.h"

#include "affinity.h"
#include "connect-check.h"
#include "quiesce.h"
#include "ptrace.h"
#include "report.h"
#include "resting.h"
#include "trigger.h"

#include <asm/unistd.h>
#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>

#define FREEZE_DEADLINE_MS 2000

struct seizing {
	struct filter *filter;
	cpu_set_t cpu;
	int added;
};

static int seize_thread(void *self, pid_t tid)
{
	struct seizing *seizing = self;
	struct filter *filter = seizing->filter;

	if (set_thread(&filter->set, tid))
		return 0;
	if (!set_add(&filter->set, tid))
		return errno == ESRCH ? 0 : -errno;
	seizing->added++;
	int error = ptrace_seize(tid);
	if (!error)
		affinity_share(tid, &seizing->cpu);
	return error ? error : ptrace_interrupt(tid);
}

static int open_to_connections(struct filter *filter)
{
	const struct gate_plan *plan = &filter->gate_plan;
	int error = 0;

	if (plan->free_port && filter->set.processes) {
		filter->checks = connect_check_open(filter->set.processes->pid, plan->free_port);
		error = filter->checks < 0 ? filter->checks : 0;
	}
	if (!error && (plan->count || plan->free_port))
		filter->gate = gate_open(plan, &filter->set, &error);
	return error;
}

int filter_seize(struct filter *filter, const char *external_file)
{
	struct seizing seizing = { .filter = filter };
	int count = 0;

	affinity_choose(&seizing.cpu);
	int error = cgroup_freeze(filter->cgroup);
	if (error)
		return error;
	/* A thread that some other tracer holds stopped is never frozen; seizing it tells. */
	if (!cgroup_wait_frozen(filter->cgroup, FREEZE_DEADLINE_MS))
		return -ETIMEDOUT;
	do {
		seizing.added = 0;
		count = cgroup_each_thread(filter->cgroup, seize_thread, &seizing);
	} while (seizing.added > 0 && count >= 0);
	if (count < 0)
		return count;
	error = descriptors_open(&filter->descriptors, &filter->set, external_file);
	if (error)
		return error;
	error = quiesce_gather(filter, FREEZE_DEADLINE_MS);
	for (struct thread *thread = filter->set.threads; thread && !error; thread = thread->next)
		error = quiesce_settle(thread);
	if (!error)
		error = open_to_connections(filter);
	filter->phase = PHASE_SEIZED;
	return error;
}

static void resume(struct thread *thread, int signal)
{
	thread->stopped = false;
	int error = ptrace_resume(thread->tid, signal);
	/* -ESRCH: killed while stopped; waitpid will tell. */
	if (error && error != -ESRCH)
		log_line("resuming thread %d failed: %d", thread->tid, error);
}

/* Decides about the call that `thread` is about to make, or has just made. True when it is activity. */
static bool on_call(struct filter *filter, struct thread *thread)
{
	struct __ptrace_syscall_info info;

	if (ptrace_call_info(thread->tid, &info) < 0)
		return false;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
		return trigger_at_entry(filter, thread, info.arch, info.entry.nr, (const uint64_t *)info.entry.args);
	if (info.op == PTRACE_SYSCALL_INFO_EXIT)
		return trigger_at_exit(filter, thread, info.exit.rval);
	return false;
}

/* True when the stop is activity. Otherwise the thread runs on. */
static bool on_stop(struct filter *filter, struct thread *thread)
{
	int signal = WSTOPSIG(thread->status), event = thread->status >> 16;

	if (signal == (SIGTRAP | 0x80)) {
		if (on_call(filter, thread))
			return true;
		resume(thread, 0);
	} else if (event == PTRACE_EVENT_STOP && signal != SIGTRAP) {
		/* Job control stopped it (^Z); it stays so until SIGCONT. */
		thread->stopped = false;
		ptrace_listen(thread->tid);
	} else if (event == PTRACE_EVENT_STOP) {
		resume(thread, 0);
	} else if (event) {
		/* A new process or program in spite of the rules: must not happen. */
		return trigger_breach(filter, thread, event);
	} else {
		if (thread_dies_of(thread, signal))
			return trigger_by_signal(filter, thread, signal);
		resume(thread, signal);
	}
	return false;
}

int filter_go(struct filter *filter)
{
	int error = cgroup_thaw(filter->cgroup);

	if (error)
		return error;
	filter->phase = PHASE_RUNNING;
	for (struct thread *thread = filter->set.threads; thread; thread = thread->next)
		if (thread->stopped && on_stop(filter, thread))
			return filter_freeze(filter);
	return 0;
}

void filter_handle_stops(struct filter *filter)
{
	struct thread *thread;

	while (filter->phase == PHASE_RUNNING && quiesce_next_stop(filter, &thread)) {
		if (thread ? on_stop(filter, thread) : trigger_by_death(filter))
			filter_freeze(filter);
	}
}

void filter_handle_connections(struct filter *filter)
{
	char who[128];

	if (filter->phase == PHASE_FROZEN)
		return;
	if (filter->gate)
		gate_receive(filter->gate);
	if (filter->checks >= 0 && connect_check_serve(filter->checks, who, sizeof(who)) && trigger_by_check(filter, who))
		filter_freeze(filter);
}

/* What a thread has just accepted, unseen by us so far, is the program's; the rest nobody has been promised. */
static void shut_gate(struct filter *filter)
{
	struct __ptrace_syscall_info info;

	for (struct thread *thread = filter->set.threads; thread; thread = thread->next)
		if (thread->stopped && thread->accepting && !ptrace_call_info(thread->tid, &info) &&
		    info.op == PTRACE_SYSCALL_INFO_EXIT && info.exit.rval >= 0)
			gate_accepted(filter->gate, thread->process, (int)info.exit.rval);
	gate_shut(filter->gate, &filter->set, report_returned);
}

void filter_rest(struct filter *filter)
{
	if (filter->rest == REST_NONE)
		resting_page_out(&filter->set);
	else
		resting_let_go(&filter->set);
	filter->rest++;
}

int filter_freeze(struct filter *filter)
{
	if (filter->phase == PHASE_FROZEN)
		return 0;
	filter->phase = PHASE_FROZEN;
	int error = cgroup_freeze(filter->cgroup);
	/* Whoever dumps them reads all of it. */
	if (filter->rest != REST_NONE)
		resting_page_in(&filter->set);
	if (!error)
		error = quiesce_gather(filter, FREEZE_DEADLINE_MS);
	if (filter->gate)
		shut_gate(filter);
	for (struct thread *thread = filter->set.threads; thread; thread = thread->next) {
		int unsettled = thread->stopped ? quiesce_settle(thread) : 0;
		error = error ? error : unsettled;
	}
	quiesce_detach(filter, FREEZE_DEADLINE_MS);
	if (!error && !cgroup_wait_frozen(filter->cgroup, FREEZE_DEADLINE_MS))
		error = -ETIMEDOUT;
	if (error)
		report_error("freeze", error);
	else
		report_event("frozen");
	return error;
}
