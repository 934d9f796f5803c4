/* The rules, each with its reason, and the decision by object. docs/activity.md lists the same; a test compares. */
#include "rules.h"

#include "objects.h"
#include "profile.h"

#define MAX_NUMBER 512 /* of the calls in the table */

const struct rule rules[RULES] = {
	[RULE_MEMORY] = { "memory", true, "the process's own memory, which the image carries" },
	[RULE_FUTEX] = { "futex", true, "waits for or wakes threads of the set" },
	[RULE_CLOCK] = { "clock", true, "reads a clock or sleeps" },
	[RULE_TIMER] = { "timer", true, "the process's own timers, which the image carries" },
	[RULE_SIGNAL_OWN] = { "signal.own", true, "the process's own signal masks, handlers and returns from them" },
	[RULE_SIGNAL_SET] = { "signal.set", true, "a signal to a process of the set; what it does is judged when it arrives" },
	[RULE_IDENTITY] = { "identity", true, "asks for what the process is, or sets its umask or name: ids, limits, working directory, usage" },
	[RULE_RANDOM] = { "random", true, "random bytes" },
	[RULE_WAIT_DESCRIPTORS] = { "wait.descriptors", true, "only waits; what follows is judged by itself" },
	[RULE_WAIT_CHILD] = { "wait.child", true, "waits for children, which are all in the set" },
	[RULE_DESCRIPTOR_INSIDE] = { "descriptor.inside", true, "the descriptor's state in the sink is the VM's: network socket, pty, pipe or socket pair inside the set, eventfd, timerfd, signalfd, epoll, /dev/null" },
	[RULE_DESCRIPTOR_NONE] = { "descriptor.none", true, "the descriptor is not open: the call fails in the VM too" },
	[RULE_CONNECTION_ACCEPT] = { "connection.accept", true, "the connection's state is in the socket, which the image carries" },
	[RULE_PROFILE] = { "profile", true, "the template's profile answers it for this program: it only looks, at files that the sink has like the VM's" },
	[RULE_CONNECTION_NEW] = { "connection.new", false, "a connection was accepted, and the policy says that the VM serves it" },
	[RULE_CONNECTION_CHECK] = { "connection.check", false, "a source of health checks sends data, which is more than a connect check" },
	[RULE_CONNECTION_MAKE] = { "connection.make", false, "binds, listens or connects a socket" },
	[RULE_DESCRIPTOR_FILE] = { "descriptor.file", false, "uses a file or device, of which the sink has only a dummy" },
	[RULE_DESCRIPTOR_EXTERNAL] = { "descriptor.external", false, "uses a descriptor whose other end stayed in the VM" },
	[RULE_DESCRIPTOR_PEER] = { "descriptor.peer", false, "the other end of the pipe, socket or pty is outside the set" },
	[RULE_DESCRIPTOR_KIND] = { "descriptor.kind", false, "a kind of descriptor that the sink does not share with the VM" },
	[RULE_DESCRIPTOR_REQUEST] = { "descriptor.request", false, "a request on a descriptor that is not known to stay inside" },
	[RULE_DESCRIPTOR_ADDRESS] = { "descriptor.address", false, "sends data to a named local socket, or credentials, or descriptors that are not all inside" },
	[RULE_DESCRIPTOR_CREATE] = { "descriptor.create", false, "a new socket, pipe or other object announces new work" },
	[RULE_FILE_OPEN] = { "file.open", false, "opens a file; the VM has the real ones" },
	[RULE_FILE_NAME] = { "file.name", false, "reads or changes the file tree; the VM has the real one" },
	[RULE_FILE_ASYNC] = { "file.async", false, "asynchronous requests (io_uring, aio) can't be judged one by one" },
	[RULE_MEMORY_FILE] = { "memory.file", false, "uses memory that is a file's or another process's, or of a kind that the image does not carry" },
	[RULE_PROCESS_CREATE] = { "process.create", false, "a new process or thread" },
	[RULE_PROCESS_EXEC] = { "process.exec", false, "starts a program" },
	[RULE_PROCESS_EXIT] = { "process.exit", false, "ends a process or thread; the VM must see its child end" },
	[RULE_PROCESS_STATE] = { "process.state", false, "changes identity, session, limits, scheduling or namespaces" },
	[RULE_PROCESS_KILLED] = { "process.killed", false, "a process was killed from outside; the rest belongs to the VM" },
	[RULE_SIGNAL_OUTSIDE] = { "signal.outside", false, "a signal to a process outside the set, to a group, or one that can't be judged on arrival" },
	[RULE_SIGNAL_FATAL] = { "signal.fatal", false, "a signal ends the process; the VM must see it end" },
	[RULE_IPC] = { "ipc", false, "shared memory, semaphores, message queues, keys" },
	[RULE_SYSTEM] = { "system", false, "reads or changes the state of the machine" },
	[RULE_CALL_FOREIGN] = { "call.foreign", false, "a 32-bit or x32 call" },
	[RULE_CALL_UNKNOWN] = { "call.unknown", false, "a call that no rule names" },
};

const char *const kind_names[KINDS] = {
	[KIND_NONE] = "none", [KIND_TCP] = "tcp", [KIND_TCP_LISTENER] = "tcp-listener", [KIND_UDP] = "udp",
	[KIND_UNIX] = "unix", [KIND_UNIX_LISTENER] = "unix-listener", [KIND_PIPE] = "pipe", [KIND_PTY] = "pty",
	[KIND_EVENTFD] = "eventfd", [KIND_TIMERFD] = "timerfd", [KIND_SIGNALFD] = "signalfd", [KIND_EPOLL] = "epoll",
	[KIND_INOTIFY] = "inotify", [KIND_NULL] = "null", [KIND_FILE] = "file", [KIND_EXTERNAL] = "external",
	[KIND_PEER_OUTSIDE] = "peer-outside", [KIND_OTHER] = "other",
};

bool kind_is_inside(enum kind kind)
{
	return kind >= KIND_TCP && kind <= KIND_NULL;
}

const struct call *call_of(uint64_t nr)
{
	static const struct call *by_number[MAX_NUMBER];
	static bool indexed;

	for (size_t i = 0; !indexed && i < calls_count; i++)
		by_number[calls[i].nr] = &calls[i];
	indexed = true;
	return nr < MAX_NUMBER ? by_number[nr] : NULL;
}

struct decision decide(const struct world *world, bool native, uint64_t nr, const uint64_t *args)
{
	struct decision decision = { RULE_CALL_FOREIGN, -1 };

	if (!native)
		return decision;
	const struct call *call = call_of(nr);
	if (!call)
		decision.rule = RULE_CALL_UNKNOWN;
	else if (!call->decide)
		decision.rule = call->rule;
	else
		decision.rule = call->decide(call, world, args, &decision.fd);
	if (call && !rules[decision.rule].allowed && world->profile && profile_allows(world, call, args))
		decision.rule = RULE_PROFILE;
	return decision;
}
