/* What differs between processors: the registers of a system call. */
#ifndef ARCH_H
#define ARCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* True for a call by the machine's own ABI; false for 32-bit and x32 calls. */
bool arch_native(uint32_t audit_arch, uint64_t nr);

/*
 * Makes a stopped thread run call `nr` for the first time when it goes on: from the entry stop, where the call has
 * not begun, or after it was interrupted without effect. Its arguments are still in their registers.
 * Returns 0 or a negative errno.
 */
int arch_roll_back(pid_t tid, long nr);

/*
 * For a thread outside a system-call entry stop: the call it is in the middle of leaving and what that returned
 * (kernel-internal -ERESTART… codes included). `*nr` is -1 when it comes from user mode. Returns 0 or a negative errno.
 */
int arch_interrupted(pid_t tid, long *nr, long *result);

/* The name of call `nr`, from the kernel's header; NULL when it has none. */
const char *arch_call_name(uint64_t nr);

#endif
