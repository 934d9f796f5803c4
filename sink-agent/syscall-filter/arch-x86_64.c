/* x86-64: orig_rax holds the number, rax the result; both `syscall` and `int $0x80` are two bytes long. */
#if defined(__x86_64__)
#include "arch.h"
#include "ptrace.h"

#include <asm/unistd.h>
#include <linux/audit.h>
#include <sys/user.h>

#define X32_BIT 0x40000000u
#define CALL_INSTRUCTION_BYTES 2

static const char *const names[] = {
#include "syscall-names.h"
};

bool arch_native(uint32_t audit_arch, uint64_t nr)
{
	return audit_arch == AUDIT_ARCH_X86_64 && !(nr & X32_BIT);
}

int arch_roll_back(pid_t tid, long nr)
{
	struct user_regs_struct regs;
	int error = ptrace_get_registers(tid, &regs, sizeof(regs));

	if (error)
		return error;
	regs.orig_rax = (unsigned long)-1; /* no call: the kernel skips it, and does not restart anything itself */
	regs.rip -= CALL_INSTRUCTION_BYTES;
	regs.rax = (unsigned long)nr;
	return ptrace_set_registers(tid, &regs, sizeof(regs));
}

int arch_interrupted(pid_t tid, long *nr, long *result)
{
	struct user_regs_struct regs;
	int error = ptrace_get_registers(tid, &regs, sizeof(regs));

	if (error)
		return error;
	*nr = (long)regs.orig_rax;
	*result = (long)regs.rax;
	return 0;
}

const char *arch_call_name(uint64_t nr)
{
	return nr < sizeof(names) / sizeof(names[0]) ? names[nr] : NULL;
}
#endif
