#define _GNU_SOURCE
#include "guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define DISMISSED 'd'

static int populate(struct dl_phdr_info *object, size_t size, void *self)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	(void)size, (void)self;
	for (const ElfW(Phdr) *part = object->dlpi_phdr; part < object->dlpi_phdr + object->dlpi_phnum; part++) {
		uintptr_t from = (object->dlpi_addr + part->p_vaddr) & ~(page - 1), to = object->dlpi_addr + part->p_vaddr + part->p_memsz;
		if (part->p_type == PT_LOAD && !(part->p_flags & PF_W))
			madvise((void *)from, to - from, MADV_POPULATE_READ);
	}
	return 0;
}

/*
 * What it will use: all code and what has been written so far. Locked as it stands, it would have a copy of its own of all that could be written, heap and
 * stack as far as they may grow, three times what it needs.
 */
static void stay_in_memory(void)
{
	volatile char stack[2048];

	mlockall(MCL_CURRENT | MCL_ONFAULT);
	dl_iterate_phdr(populate, NULL);
	for (size_t i = 0; i < sizeof(stack); i += 64)
		stack[i] = 0;
	errno = 0;
}

static _Noreturn void guard(int alive, const struct cgroup *cgroup)
{
	struct sched_param first = { .sched_priority = 1 };
	sigset_t all;
	char word = 0;

	/* A session of its own and no signals: what ends the tracer's group must not end both. */
	setsid();
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	prctl(PR_SET_NAME, "filter-guardian");
	/* Neither paging (CAP_IPC_LOCK) nor ordinary processes (CAP_SYS_NICE) may delay it. Best effort: it works without. */
	stay_in_memory();
	sched_setscheduler(0, SCHED_FIFO, &first);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; fd <= 2; fd++)
		dup2(null, fd);
	while (read(alive, &word, 1) < 0 && errno == EINTR)
		;
	if (word != DISMISSED)
		cgroup_freeze(cgroup);
	_exit(0);
}

int guardian_start(struct guardian *guardian, const struct cgroup *cgroup)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	guardian->pid = fork();
	if (guardian->pid < 0)
		return -errno;
	if (guardian->pid == 0) {
		close(ends[1]);
		guard(ends[0], cgroup);
	}
	close(ends[0]);
	guardian->alive = ends[1];
	return 0;
}

void guardian_dismiss(struct guardian *guardian)
{
	char word = DISMISSED;

	if (write(guardian->alive, &word, 1) == 1)
		waitpid(guardian->pid, NULL, 0);
}
