/*
 * Which system calls may run in a sink. Pure: no system call is made here, everything asked of the world goes
 * through `struct world`, so that the table can be printed (--explain) and tried (--decide) without a process.
 *
 * A call may run when all it does stays within state that the sink shares with the VM: memory, clocks, signals
 * of its own, and descriptors that CRIU carries whole. Everything else is activity, unknown calls included.
 */
#ifndef RULES_H
#define RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a descriptor is, from the point of view of the sink. Order matters: see kind_is_inside(). */
enum kind {
	KIND_NONE, /* not open: the call fails with EBADF in the VM too */
	KIND_TCP,
	KIND_TCP_LISTENER,
	KIND_UDP,
	KIND_UNIX, /* peer inside the set, or none */
	KIND_UNIX_LISTENER,
	KIND_PIPE, /* both ends inside the set, or the other end closed */
	KIND_PTY,
	KIND_EVENTFD,
	KIND_TIMERFD,
	KIND_SIGNALFD,
	KIND_EPOLL,
	KIND_INOTIFY,
	KIND_NULL, /* null, zero, full, random, urandom */
	KIND_FILE, /* a dummy: file, directory, device, memfd */
	KIND_EXTERNAL, /* listed by the sink agent: stands in for an end that stayed in the VM */
	KIND_PEER_OUTSIDE,
	KIND_OTHER,
	KINDS
};

enum rule_id {
	/* allowed */
	RULE_MEMORY,
	RULE_FUTEX,
	RULE_CLOCK,
	RULE_TIMER,
	RULE_SIGNAL_OWN,
	RULE_SIGNAL_SET,
	RULE_IDENTITY,
	RULE_RANDOM,
	RULE_WAIT_DESCRIPTORS,
	RULE_WAIT_CHILD,
	RULE_DESCRIPTOR_INSIDE,
	RULE_DESCRIPTOR_NONE,
	RULE_CONNECTION_ACCEPT,
	RULE_PROFILE,
	/* activity */
	RULE_CONNECTION_NEW,
	RULE_CONNECTION_CHECK,
	RULE_CONNECTION_MAKE,
	RULE_DESCRIPTOR_FILE,
	RULE_DESCRIPTOR_EXTERNAL,
	RULE_DESCRIPTOR_PEER,
	RULE_DESCRIPTOR_KIND,
	RULE_DESCRIPTOR_REQUEST,
	RULE_DESCRIPTOR_ADDRESS,
	RULE_DESCRIPTOR_CREATE,
	RULE_FILE_OPEN,
	RULE_FILE_NAME,
	RULE_FILE_ASYNC,
	RULE_MEMORY_FILE,
	RULE_PROCESS_CREATE,
	RULE_PROCESS_EXEC,
	RULE_PROCESS_EXIT,
	RULE_PROCESS_STATE,
	RULE_PROCESS_KILLED,
	RULE_SIGNAL_OUTSIDE,
	RULE_SIGNAL_FATAL,
	RULE_IPC,
	RULE_SYSTEM,
	RULE_CALL_FOREIGN,
	RULE_CALL_UNKNOWN,
	RULES
};

struct rule {
	const char *name;
	bool allowed;
	const char *reason;
};

/* What the decision may ask. `self` is passed back untouched. */
struct world {
	void *self;
	enum kind (*kind)(void *self, int fd);
	/* True when a read of fd would not block. */
	bool (*readable)(void *self, int fd);
	/* True when the process or thread (numbered as in the container) is in the set. */
	bool (*in_set)(void *self, int pid);
	/* Copies the caller's memory; false when it can't be read. */
	bool (*memory)(void *self, uint64_t address, void *to, size_t length);
	/* Whether that range touches a mapping of a file; `shared`: one through which writes reach the file. */
	bool (*maps_file)(void *self, uint64_t address, uint64_t length, bool shared);
	/* Writes the absolute path of a descriptor or, for AT_FDCWD, of the working directory. False when it has none. */
	bool (*path_of)(void *self, int fd, char *path, size_t size);
	/* True when fd is open for reading alone. */
	bool (*read_only)(void *self, int fd);
	int pid; /* the caller's, as in the container */
	const char *program; /* the caller's */
	const struct profile *profile; /* what the template allows beyond the rules; NULL: nothing */
};

struct decision {
	enum rule_id rule;
	int fd; /* the descriptor that decided, or -1 */
};

struct call {
	const char *name;
	int nr;
	enum rule_id rule; /* the answer, unless `decide` says otherwise */
	enum rule_id (*decide)(const struct call *call, const struct world *world, const uint64_t *args, int *fd);
	/*
	 * One letter per argument: d descriptor, a directory descriptor, p path, f open flags, m mode, S signal,
	 * c clone flags, P process, s socket address (its length follows), i int, x hexadecimal.
	 */
	const char *signature;
};

extern const struct rule rules[RULES];
extern const struct call calls[];
extern const size_t calls_count;
extern const char *const kind_names[KINDS];

/* `native` is false for calls by another ABI than the machine's own (32-bit, x32). */
struct decision decide(const struct world *world, bool native, uint64_t nr, const uint64_t *args);

/* The entry of a call in the table, or NULL. */
const struct call *call_of(uint64_t nr);

/* Whether a descriptor of this kind has the same state in the sink as in the VM. */
bool kind_is_inside(enum kind kind);

#endif
