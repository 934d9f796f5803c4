#define _GNU_SOURCE
#include "client.h"

#include "descriptor.h"

#include <asm/unistd.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

void client_at_entry(struct thread *thread, long nr, const uint64_t *args, int fd, enum kind kind)
{
	struct receiving *receiving = &thread->receiving;

	*receiving = (struct receiving){ .how = NOT_RECEIVING, .fd = fd };
	if (nr == __NR_accept || nr == __NR_accept4) {
		receiving->how = kind == KIND_TCP_LISTENER ? FROM_ACCEPT : NOT_RECEIVING;
		return;
	}
	if ((kind != KIND_TCP && kind != KIND_UDP) || (nr != __NR_read && nr != __NR_readv && nr != __NR_recvfrom &&
	    nr != __NR_recvmsg && nr != __NR_recvmmsg))
		return;
	receiving->how = FROM_CONNECTION;
	if (kind != KIND_UDP)
		return;
	receiving->address = nr == __NR_recvfrom ? args[4] : args[1];
	if (nr == __NR_recvfrom && args[4])
		receiving->how = FROM_ADDRESS;
	else if (nr == __NR_recvmsg)
		receiving->how = FROM_MESSAGE;
	else if (nr == __NR_recvmmsg)
		receiving->how = FROM_MESSAGES;
}

/* The sender of a datagram, as the kernel has just told the caller. False when the caller did not ask. */
static bool sender(const struct thread *thread, const struct receiving *receiving, long result, struct sockaddr_in6 *address)
{
	uint64_t at = receiving->address;

	if (receiving->how != FROM_ADDRESS) {
		uint64_t header = receiving->how == FROM_MESSAGES ? at + (uint64_t)(result - 1) * sizeof(struct mmsghdr) : at;
		uint64_t name;
		_Static_assert(offsetof(struct msghdr, msg_name) == 0, "the address comes first");
		if (!thread_memory(thread, header, &name, sizeof(name)) || !name)
			return false;
		at = name;
	}
	/* An IPv4 address is shorter; both are read as far as they go. */
	return thread_memory(thread, at, address, sizeof(*address)) || thread_memory(thread, at, address, sizeof(struct sockaddr_in));
}

void client_at_exit(struct thread *thread, long result)
{
	struct receiving receiving = thread->receiving;
	struct client client = { .known = true, .fd = receiving.how == FROM_ACCEPT ? (int)result : receiving.fd };

	thread->receiving.how = NOT_RECEIVING;
	if (receiving.how == NOT_RECEIVING || result < 0 || (receiving.how == FROM_MESSAGES && result == 0))
		return;
	if (receiving.how >= FROM_ADDRESS && !sender(thread, &receiving, result, &client.address))
		client.address.sin6_family = 0;
	thread->client = client;
	thread->process->client = client;
}

static bool resolve(const struct process *process, const struct client *client, char *text, size_t size)
{
	struct sockaddr_storage address = { 0 };

	if (!client->known)
		return false;
	memcpy(&address, &client->address, sizeof(client->address));
	if (address.ss_family == 0 && !descriptor_peer(process, client->fd, &address))
		return false;
	return descriptor_print_address(&address, text, size) > 0;
}

/* A shell or a worker at the end of a pipe is served by whoever made it. */
bool client_of(const struct set *set, const struct thread *thread, char *text, size_t size)
{
	const struct process *process = thread->process;

	if (resolve(process, &thread->client, text, size))
		return true;
	for (int generations = 0; process && generations < 32; generations++) {
		if (resolve(process, &process->client, text, size))
			return true;
		pid_t parent = process->parent;
		for (process = set->processes; process && process->pid != parent;)
			process = process->next;
	}
	return false;
}
