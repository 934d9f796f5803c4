/*
 * syscall-observer --pids PID,… --seconds N [--allow FILE]
 *   Watches processes where they live, in the VM: each of their calls is judged as in a sink, and runs. Prints, at the end, as JSON
 *   lines, what would have woken the VM. Ends early at the end of its input, and by SIGTERM, SIGINT and SIGHUP. New threads and
 *   children are watched too. Should it be killed, the kernel lets go of the processes, which notice nothing.
 * syscall-observer [--allow FILE] --explain | --decide    as syscall-filter, for tests on other processors
 *
 *   out: {"event":"observing","tasks":n} · {"event":"activity",…} each · {"event":"done","calls":n,"ms":n}
 *   in:  {"cmd":"kinds"}: what each descriptor is taken for, by process
 */
#define _GNU_SOURCE
#include "../explain.h"
#include "../profile.h"
#include "../report.h"
#include "../signals.h"
#include "watching.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct options {
	char *pids;
	long seconds;
	const struct profile *profile;
};

static void usage(void)
{
	fputs("usage: syscall-observer --pids PID,... --seconds N [--allow FILE]\n"
	      "       syscall-observer [--allow FILE] --explain | --decide\n", stderr);
	exit(2);
}

static struct options parse(int argc, char **argv)
{
	static const struct option known[] = { { "pids", required_argument, NULL, 'p' }, { "seconds", required_argument, NULL, 's' },
		{ "allow", required_argument, NULL, 'l' }, { "explain", no_argument, NULL, 'x' }, { "decide", no_argument, NULL, 'd' },
		{ NULL, 0, NULL, 0 } };
	struct options options = { 0 };
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (option == 'p')
			options.pids = optarg;
		else if (option == 's')
			options.seconds = atol(optarg);
		else if (option == 'l' && (options.profile = profile_read(optarg)))
			continue;
		else if (option == 'x')
			report_rules(), exit(0);
		else if (option == 'd')
			exit(explain_decisions(stdin, options.profile));
		else
			usage();
	}
	if (!options.pids || options.seconds <= 0 || optind != argc)
		usage();
	return options;
}

/* False at the end of input. */
static bool obey(struct watching *watching)
{
	char text[256];
	ssize_t length = read(STDIN_FILENO, text, sizeof(text) - 1);

	if (length <= 0)
		return false;
	text[length] = 0;
	if (strstr(text, "\"kinds\""))
		watching_print_kinds(watching);
	return true;
}

int main(int argc, char **argv)
{
	struct options options = parse(argc, argv);

	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	struct pollfd sources[] = { { signals_open(), POLLIN, 0 }, { STDIN_FILENO, POLLIN, 0 } };

	struct watching *watching = watching_begin(options.pids, options.profile);
	if (!watching) {
		report_error("watch the processes", errno);
		return 1;
	}
	printf("{\"event\":\"observing\",\"tasks\":%zu}\n", watching_tasks(watching));
	for (bool go_on = true; go_on && watching_tasks(watching) > 0;) {
		watching_handle_stops(watching);
		long left = options.seconds * 1000 - watching_milliseconds(watching);
		int ready = left > 0 ? poll(sources, 2, (int)(left < 1000000 ? left : 1000000)) : 0;
		go_on = left > 0 && (ready >= 0 || errno == EINTR);
		if (ready > 0 && sources[0].revents)
			go_on = !signals_tell_to_end(sources[0].fd);
		if (go_on && ready > 0 && sources[1].revents)
			go_on = obey(watching);
	}
	return watching_end(watching, sources[0].fd);
}
