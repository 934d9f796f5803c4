/* aarch64: x8 holds the number, x0 the first argument and the result. Compiles; cancelling a call is still to come. */
#if defined(__aarch64__)
#include "arch.h"
#include "ptrace.h"

#include <asm/unistd.h>
#include <errno.h>
#include <linux/audit.h>

static const char *const names[] = {
#include "syscall-names.h"
};

bool arch_native(uint32_t audit_arch, uint64_t nr)
{
	(void)nr;
	return audit_arch == AUDIT_ARCH_AARCH64;
}

int arch_roll_back(pid_t tid, long nr)
{
	(void)tid, (void)nr;
	return -ENOSYS;
}

int arch_interrupted(pid_t tid, long *nr, long *result)
{
	(void)tid, (void)nr, (void)result;
	return -ENOSYS;
}

const char *arch_call_name(uint64_t nr)
{
	return nr < sizeof(names) / sizeof(names[0]) ? names[nr] : NULL;
}
#endif
