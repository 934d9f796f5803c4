#include "caller.h"

static enum kind kind_of(void *self, int fd)
{
	struct caller *caller = self;

	caller->fd = fd;
	caller->kind = descriptor_kind(caller->descriptors, caller->thread->process, fd);
	return caller->kind;
}

static bool is_readable(void *self, int fd)
{
	return descriptor_readable(((struct caller *)self)->thread->process, fd);
}

static bool is_read_only(void *self, int fd)
{
	return descriptor_read_only(((struct caller *)self)->thread->process, fd);
}

static bool path_of(void *self, int fd, char *path, size_t size)
{
	return descriptor_path(((struct caller *)self)->thread->process, fd, path, size);
}

static bool is_in_set(void *self, int pid)
{
	return set_has_inner(((struct caller *)self)->set, pid);
}

static bool copy_memory(void *self, uint64_t address, void *to, size_t length)
{
	return thread_memory(((struct caller *)self)->thread, address, to, length);
}

static bool maps_file(void *self, uint64_t address, uint64_t length, bool shared)
{
	const struct process *process = ((struct caller *)self)->thread->process;

	return mappings_touch(&process->mappings, process->pid, address, length, shared);
}

struct world caller_world(struct caller *caller, const struct profile *profile)
{
	const struct process *process = caller->thread->process;

	return (struct world){ .self = caller, .kind = kind_of, .readable = is_readable, .in_set = is_in_set, .memory = copy_memory,
		.maps_file = maps_file, .path_of = path_of, .read_only = is_read_only, .pid = process->inner_pid,
		.program = process->program, .profile = profile };
}
