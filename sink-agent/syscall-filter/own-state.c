/* What a process does with its own memory, signals, timers and attributes, or asks about processes: allow-lists again. */
#define _GNU_SOURCE
#include "objects.h"

#include <linux/futex.h>
#include <linux/prctl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

/* Signal 0 only asks whether the process is there. */
static enum rule_id signal_to(const struct world *world, int pid, int number)
{
	if (pid <= 0 || !world->in_set(world->self, pid))
		return RULE_SIGNAL_OUTSIDE;
	/* These two act without being delivered, so that nobody could judge them on arrival. */
	if (number == SIGKILL || number == SIGSTOP)
		return RULE_SIGNAL_OUTSIDE;
	return RULE_SIGNAL_SET;
}

DECIDER(by_kill)
{
	(void)call, (void)fd;
	return signal_to(world, (int)args[0], (int)args[1]);
}

DECIDER(by_tgkill)
{
	(void)call, (void)fd;
	if (!world->in_set(world->self, (int)args[0]))
		return RULE_SIGNAL_OUTSIDE;
	return signal_to(world, (int)args[1], (int)args[2]);
}

DECIDER(by_process)
{
	int pid = (int)args[0];

	(void)fd;
	return pid == 0 || world->in_set(world->self, pid) ? call->rule : RULE_SYSTEM;
}

DECIDER(by_prlimit)
{
	(void)fd;
	if (args[2])
		return RULE_PROCESS_STATE;
	return args[0] == 0 || (int)args[0] == world->pid ? call->rule : RULE_SYSTEM;
}

DECIDER(by_getpriority)
{
	(void)world, (void)fd;
	return args[0] == PRIO_PROCESS && args[1] == 0 ? call->rule : RULE_SYSTEM;
}

DECIDER(by_mmap)
{
	uint64_t type = args[3] & MAP_TYPE;

	(void)world, (void)fd;
	if (!(args[3] & MAP_ANONYMOUS) || (args[3] & MAP_HUGETLB))
		return RULE_MEMORY_FILE;
	return type == MAP_PRIVATE || type == MAP_SHARED ? call->rule : RULE_MEMORY_FILE;
}

/* Nobody sees a write through a shared mapping of a dummy file, so it must not become possible. */
DECIDER(by_mprotect)
{
	(void)fd;
	if ((args[2] & PROT_WRITE) && world->maps_file(world->self, args[0], args[1], true))
		return RULE_MEMORY_FILE;
	return call->rule;
}

/* Mappings of files stay where they were when the processes were seized, so that they are known (mappings.h). */
DECIDER(by_mremap)
{
	(void)fd;
	return world->maps_file(world->self, args[0], args[1] ? args[1] : 1, false) ? RULE_MEMORY_FILE : call->rule;
}

DECIDER(by_madvise)
{
	/* Not MADV_REMOVE, which punches holes into the file behind a mapping. */
	static const uint64_t advice[] = { MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED, MADV_FREE,
		MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTDUMP, MADV_DODUMP, MADV_COLD, MADV_PAGEOUT, MADV_DONTFORK, MADV_DOFORK,
		MADV_POPULATE_READ, MADV_POPULATE_WRITE };

	(void)fd;
	/* Own changes to a private mapping would be dropped, and what comes back would be the dummy's. */
	if ((uint32_t)args[2] == MADV_DONTNEED && world->maps_file(world->self, args[0], args[1], false))
		return RULE_MEMORY_FILE;
	return LISTED((uint32_t)args[2], advice) ? call->rule : RULE_MEMORY_FILE;
}

/* Base addresses of FS and GS; not what enables features of the processor. */
DECIDER(by_arch_prctl)
{
	(void)world, (void)fd;
	return args[0] >= 0x1001 && args[0] <= 0x1004 ? call->rule : RULE_PROCESS_STATE;
}

/* CRIU carries timers with their numbers, on these clocks, that send a signal or nothing. */
DECIDER(by_timer_create)
{
	static const uint64_t clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL };

	(void)fd;
	if (!LISTED((uint32_t)args[0], clocks))
		return RULE_DESCRIPTOR_CREATE;
	if (args[1] && !world->memory(world->self, args[1], &event, sizeof(event)))
		return RULE_DESCRIPTOR_CREATE;
	return event.sigev_notify == SIGEV_SIGNAL || event.sigev_notify == SIGEV_NONE || event.sigev_notify == SIGEV_THREAD_ID
		? call->rule : RULE_DESCRIPTOR_CREATE;
}

DECIDER(by_prctl)
{
	static const uint64_t options[] = { PR_GET_NAME, PR_SET_NAME, PR_GET_DUMPABLE, PR_GET_PDEATHSIG, PR_SET_VMA, PR_GET_KEEPCAPS,
		PR_CAPBSET_READ, PR_GET_NO_NEW_PRIVS, PR_GET_SECCOMP, PR_GET_TIMERSLACK,
		PR_GET_CHILD_SUBREAPER, PR_GET_SECUREBITS, PR_GET_THP_DISABLE };

	(void)world, (void)fd;
	return LISTED((uint32_t)args[0], options) ? call->rule : RULE_PROCESS_STATE;
}

DECIDER(by_personality)
{
	(void)world, (void)fd;
	return (uint32_t)args[0] == 0xffffffffu ? call->rule : RULE_PROCESS_STATE;
}

/* Any futex of the set may be used; FUTEX_FD does not exist any more, and requests unknown to us are refused. */
DECIDER(by_futex)
{
	int command = (int)args[1] & FUTEX_CMD_MASK;

	(void)world, (void)fd;
	return command >= FUTEX_WAIT && command <= FUTEX_LOCK_PI2 && command != FUTEX_FD ? call->rule : RULE_CALL_UNKNOWN;
}
