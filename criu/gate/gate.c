/*
 * CRIU runs this at each stage of a dump or restore (--action-script). At the last moment before its work takes effect (all is
 * dumped and the processes still exist, all is restored and none runs yet) it says so and waits for the verdict: 0 go on,
 * anything else undo. The agent holds the FIFO open; if it dies, the end of file is the verdict: undo. When a restore has made the first
 * of its processes and makes the others it says so as well, and waits for nothing.
 * A program and not a shell script, since CRIU has half a dozen stages and under emulation each start of a shell counts.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { UNDO = 1 };

static int open_in_gate(const char *name, int flags)
{
	char path[4096];
	const char *folder = getenv("SEAMLESS_GATE");
	int length = snprintf(path, sizeof path, "%s/%s", folder ? folder : "", name);
	if (folder == NULL || length >= (int)sizeof path) {
		fprintf(stderr, "gate: expected a folder in SEAMLESS_GATE\n");
		return -1;
	}
	int fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		fprintf(stderr, "gate: %s: %s\n", path, strerror(errno));
	return fd;
}

int main(void)
{
	const char *stage = getenv("CRTOOLS_SCRIPT_ACTION");
	if (stage == NULL)
		return 0;
	int begins = strcmp(stage, "post-setup-namespaces") == 0;
	if (!begins && strcmp(stage, "post-dump") != 0 && strcmp(stage, "post-restore") != 0)
		return 0;
	/* Not blocking: without the agent nobody reads, and that means undo, not wait. */
	int reached = open_in_gate("reached", O_WRONLY | O_NONBLOCK);
	const char *word = begins ? "begun\n" : "reached\n";
	if (reached < 0 || write(reached, word, strlen(word)) != (ssize_t)strlen(word))
		return UNDO;
	if (begins)
		return 0;
	int verdict = open_in_gate("verdict", O_RDONLY | O_NONBLOCK);
	if (verdict < 0 || fcntl(verdict, F_SETFL, 0) < 0)
		return UNDO;
	char answer = 0;
	ssize_t got;
	do
		got = read(verdict, &answer, 1);
	while (got < 0 && errno == EINTR);
	return got == 1 && answer == '0' ? 0 : UNDO;
}
