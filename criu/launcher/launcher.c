/*
 * Starts commands for an agent. A process of Node that starts one copies its page tables and waits until the command is there:
 * milliseconds in which no other wake gets on. This one is small, and shares its memory with the child until that has begun.
 *
 * Requests on standard input, answers on standard output; numbers are little-endian, of 32 bits.
 *   length, id, RUN, environments, arguments, descriptors, then so many numbers: descriptors of the agent's, which the command gets from 3 on;
 *     then so many texts, each ended by NUL: the directory, the environments, the arguments; the rest is the command's standard input
 *   length, id, KILL, signal          to the command and all of its session
 *   length, id, kind, number, bytes of output, output, errors      kind 0: exit status, 1: signal, 2: errno, it could not be started
 * `length` counts what follows it. Ends with its input; commands go on then.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RUN = 1, KILL = 2, TEXTS = 256, DESCRIPTORS = 256, ERRORS_KEPT = 16384, HEAD = 12, FIRST_OWN = 3 };
enum { LONGEST = 64 << 20 };

extern char **environ;

struct command {
	uint32_t id;
	pid_t pid;
	int output, errors;
	struct command *next;
};

static struct command *commands;
/* As a pidfd: whose descriptors commands may get. */
static int agent;

static void put(const void *bytes, size_t left)
{
	for (const char *at = bytes; left > 0;) {
		ssize_t written = write(STDOUT_FILENO, at, left);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			exit(0); /* the agent is gone */
		at += written;
		left -= (size_t)written;
	}
}

static void get(void *bytes, size_t left)
{
	for (char *at = bytes; left > 0;) {
		ssize_t got = read(STDIN_FILENO, at, left);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			exit(0);
		at += got;
		left -= (size_t)got;
	}
}

/* The end of a file in memory, at most `limit` bytes of it. */
static char *contents(int file, size_t limit, uint32_t *length)
{
	off_t size = lseek(file, 0, SEEK_END);
	size_t wanted = size < 0 ? 0 : (size_t)size > limit ? limit : (size_t)size;
	char *bytes = malloc(wanted + 1);
	ssize_t got = bytes ? pread(file, bytes, wanted, size - (off_t)wanted) : 0;

	*length = got < 0 ? 0 : (uint32_t)got;
	return bytes;
}

static void answer(uint32_t id, uint32_t kind, uint32_t number, int output_file, int errors_file)
{
	uint32_t output_length, errors_length;
	char *output = contents(output_file, LONGEST, &output_length);
	char *errors = contents(errors_file, ERRORS_KEPT, &errors_length);
	uint32_t head[] = { 4 * 4 + output_length + errors_length, id, kind, number, output_length };

	put(head, sizeof(head));
	put(output, output_length);
	put(errors, errors_length);
	free(output);
	free(errors);
}

/* Copies of the agent's descriptors, above all that they may become; errno of what went wrong. */
static int fetch(const uint32_t *numbers, uint32_t count, int copies[])
{
	for (uint32_t i = 0; i < count; i++) {
		int copy = (int)syscall(SYS_pidfd_getfd, agent, (int)numbers[i], 0);
		copies[i] = copy < 0 ? -1 : fcntl(copy, F_DUPFD_CLOEXEC, FIRST_OWN + DESCRIPTORS);
		int error = copies[i] < 0 ? errno : 0;
		if (copy >= 0)
			close(copy);
		if (error) {
			while (i > 0)
				close(copies[--i]);
			return error;
		}
	}
	return 0;
}

/* `files` become standard input, output and errors, `own` the descriptors from 3 on. */
static int start(char *const argv[], char *const environment[], const char *directory, const int files[3], const int own[],
		 uint32_t own_count, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none;

	sigemptyset(&none);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	for (int fd = 0; fd < 3; fd++)
		posix_spawn_file_actions_adddup2(&actions, files[fd], fd);
	for (uint32_t i = 0; i < own_count; i++)
		posix_spawn_file_actions_adddup2(&actions, own[i], FIRST_OWN + (int)i);
	posix_spawn_file_actions_addchdir_np(&actions, directory);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
	int error = posix_spawnp(pid, argv[0], &actions, &attributes, argv, environment);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	return error;
}

/* `count` texts from `*at` on, before `end`; false when there are fewer. */
static int take(char **at, const char *end, uint32_t count, char *texts[])
{
	for (uint32_t i = 0; i < count; i++) {
		char *stop = *at < end ? memchr(*at, 0, (size_t)(end - *at)) : NULL;
		if (!stop)
			return 0;
		texts[i] = *at;
		*at = stop + 1;
	}
	texts[count] = NULL;
	return 1;
}

/* The environment of this process with `own` in it instead of what has the same name; NULL when there is no memory. */
static char **environment_with(char *own[], uint32_t own_count)
{
	size_t inherited = 0, used = 0;

	while (environ[inherited])
		inherited++;
	char **environment = calloc(inherited + own_count + 1, sizeof(char *));
	for (size_t i = 0; environment && i < inherited; i++) {
		size_t name = strcspn(environ[i], "=") + 1;
		uint32_t other = 0;
		while (other < own_count && strncmp(own[other], environ[i], name))
			other++;
		if (other == own_count)
			environment[used++] = environ[i];
	}
	if (environment)
		memcpy(environment + used, own, own_count * sizeof(char *));
	return environment;
}

/* errno when the command that `body` describes could not be started. */
static int start_described(char *body, size_t length, const int files[3], pid_t *pid)
{
	uint32_t counts[3], numbers[DESCRIPTORS];
	char *directory[2], *own[TEXTS + 1], *argv[TEXTS + 1], *at = body + sizeof(counts), *end = body + length;
	int copies[DESCRIPTORS];

	if (length < sizeof(counts))
		return EINVAL;
	memcpy(counts, body, sizeof(counts));
	if (counts[0] > TEXTS || counts[1] == 0 || counts[1] > TEXTS || counts[2] > DESCRIPTORS ||
	    (size_t)(end - at) < counts[2] * sizeof(*numbers))
		return EINVAL;
	memcpy(numbers, at, counts[2] * sizeof(*numbers));
	at += counts[2] * sizeof(*numbers);
	if (!take(&at, end, 1, directory) || !take(&at, end, counts[0], own) || !take(&at, end, counts[1], argv))
		return EINVAL;
	size_t input = (size_t)(end - at);
	if (write(files[0], at, input) != (ssize_t)input || lseek(files[0], 0, SEEK_SET))
		return ENOMEM;
	char **environment = environment_with(own, counts[0]);
	if (!environment)
		return ENOMEM;
	int error = fetch(numbers, counts[2], copies);
	if (!error) {
		error = start(argv, environment, directory[0], files, copies, counts[2], pid);
		for (uint32_t i = 0; i < counts[2]; i++)
			close(copies[i]);
	}
	free(environment);
	return error;
}

static void run(uint32_t id, char *body, size_t length)
{
	int files[] = { memfd_create("input", MFD_CLOEXEC), memfd_create("output", MFD_CLOEXEC), memfd_create("errors", MFD_CLOEXEC) };
	struct command *command = calloc(1, sizeof(*command));
	int error = command && files[0] >= 0 && files[1] >= 0 && files[2] >= 0
			    ? start_described(body, length, files, &command->pid) : ENOMEM;

	if (error) {
		answer(id, 2, (uint32_t)error, files[1], files[2]);
		close(files[1]);
		close(files[2]);
		free(command);
	} else {
		*command = (struct command){ id, command->pid, files[1], files[2], commands };
		commands = command;
	}
	close(files[0]);
}

static void kill_command(uint32_t id, uint32_t signal)
{
	for (struct command *command = commands; command; command = command->next)
		if (command->id == id)
			kill(-command->pid, (int)signal);
}

static void obey(void)
{
	uint32_t head[3], signal;

	get(head, sizeof(head));
	if (head[0] < HEAD - 4 || head[0] > LONGEST)
		exit(1);
	size_t length = head[0] - (HEAD - 4);
	char *body = malloc(length + 1);
	if (!body)
		exit(1);
	get(body, length);
	if (head[2] == RUN)
		run(head[1], body, length);
	else if (head[2] == KILL && length == sizeof(signal))
		kill_command(head[1], (memcpy(&signal, body, sizeof(signal)), signal));
	free(body);
}

static void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (struct command **at = &commands; *at; at = &(*at)->next) {
			struct command *ended = *at;
			if (ended->pid != pid)
				continue;
			answer(ended->id, WIFSIGNALED(status), (uint32_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)),
			       ended->output, ended->errors);
			close(ended->output);
			close(ended->errors);
			*at = ended->next;
			free(ended);
			break;
		}
	}
}

int main(void)
{
	sigset_t handled;
	struct signalfd_siginfo taken[16];

	sigemptyset(&handled);
	sigaddset(&handled, SIGCHLD);
	/* What ends the agent's group must not end what it needs to end in order. */
	for (const int *signal = (const int[]){ SIGTERM, SIGINT, SIGHUP, SIGPIPE, 0 }; *signal; signal++)
		sigaddset(&handled, *signal);
	sigprocmask(SIG_BLOCK, &handled, NULL);
	agent = (int)syscall(SYS_pidfd_open, getppid(), 0);
	struct pollfd sources[] = { { STDIN_FILENO, POLLIN, 0 }, { signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK), POLLIN, 0 } };
	while (poll(sources, 2, -1) >= 0 || errno == EINTR) {
		if (sources[1].revents && read(sources[1].fd, taken, sizeof(taken)) > 0)
			reap();
		if (sources[0].revents)
			obey();
	}
	return 1;
}
