/*
 * syscall-filter --cgroup DIR [--external FILE] [--allow FILE] [--accept trigger|allow] [--rest-after MS]
 *                [--gate QUEUE [--gate-ports PORT,…] [--check-port PORT]]
 *   Lets the processes of a sink run only calls whose effect stays within state that the sink shares with the VM.
 *   Control: JSON lines on standard input, {"cmd":"go"} and {"cmd":"freeze"}; events as JSON lines on standard output.
 *   End of input, SIGTERM, SIGINT and SIGHUP mean freeze. Always ends with the cgroup frozen; exit status 0 when that is sure.
 * syscall-filter --cgroup DIR --unread   prints the datagrams that wait in the sockets of a frozen set, see datagrams.h
 * syscall-filter --explain   prints the rules
 * syscall-filter [--allow FILE] --decide    tries them on lines of standard input, see explain.h
 */
#define _GNU_SOURCE
#include "datagrams.h"
#include "explain.h"
#include "filter.h"
#include "guardian.h"
#include "profile.h"
#include "report.h"
#include "signals.h"
#include "waiting.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* In which what is paged out reaches the disk. */
#define WRITTEN_MS 2000

struct options {
	const char *cgroup, *external_file;
	const struct profile *profile;
	bool accept_triggers, unread;
	int rest_after_ms;
	struct gate_plan gate;
};

struct input {
	char text[256];
	size_t used;
};

static void usage(void)
{
	fputs("usage: syscall-filter --cgroup DIR [--external FILE] [--allow FILE] [--accept trigger|allow]\n"
	      "                      [--rest-after MS] [--gate QUEUE [--gate-ports PORT,...] [--check-port PORT]]\n"
	      "       syscall-filter --cgroup DIR --unread\n"
	      "       syscall-filter --explain | --decide\n", stderr);
	exit(2);
}

static uint16_t number(const char *text)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (!*text || *end || value > 65535)
		usage();
	return (uint16_t)value;
}

static void parse_ports(char *list, struct gate_plan *plan)
{
	char *rest = NULL;

	for (char *item = strtok_r(list, ",", &rest); item; item = strtok_r(NULL, ",", &rest)) {
		if (plan->count == GATE_PORTS)
			usage();
		plan->ports[plan->count++] = number(item);
	}
}

static const struct profile *read_profile(const char *file)
{
	const struct profile *profile = profile_read(file);

	if (!profile) {
		report_error("read the profile", errno);
		exit(1);
	}
	return profile;
}

static struct options parse(int argc, char **argv)
{
	static const struct option known[] = { { "cgroup", required_argument, NULL, 'c' }, { "external", required_argument, NULL, 'e' },
		{ "accept", required_argument, NULL, 'a' }, { "allow", required_argument, NULL, 'l' }, { "gate", required_argument, NULL, 'g' },
		{ "gate-ports", required_argument, NULL, 'p' }, { "check-port", required_argument, NULL, 'k' },
		{ "rest-after", required_argument, NULL, 'r' }, { "unread", no_argument, NULL, 'u' }, { "explain", no_argument, NULL, 'x' }, { "decide", no_argument, NULL, 'd' },
		{ NULL, 0, NULL, 0 } };
	struct options options = { .accept_triggers = true, .rest_after_ms = -1 };
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (option == 'c')
			options.cgroup = optarg;
		else if (option == 'e')
			options.external_file = optarg;
		else if (option == 'a' && (!strcmp(optarg, "trigger") || !strcmp(optarg, "allow")))
			options.accept_triggers = *optarg == 't';
		else if (option == 'g')
			options.gate.queue = number(optarg);
		else if (option == 'k')
			options.gate.free_port = number(optarg);
		else if (option == 'r')
			options.rest_after_ms = number(optarg);
		else if (option == 'p')
			parse_ports(optarg, &options.gate);
		else if (option == 'l')
			options.profile = read_profile(optarg);
		else if (option == 'u')
			options.unread = true;
		else if (option == 'x')
			report_rules(), exit(0);
		else if (option == 'd')
			exit(explain_decisions(stdin, options.profile));
		else
			usage();
	}
	if (!options.cgroup || optind != argc)
		usage();
	return options;
}

/* Reads what has come; obeys whole lines. False at the end of input or on a freeze command. */
static bool obey(struct filter *filter, struct input *input)
{
	ssize_t length = read(STDIN_FILENO, input->text + input->used, sizeof(input->text) - 1 - input->used);

	if (length <= 0)
		return length < 0 && (errno == EINTR || errno == EAGAIN);
	input->used += (size_t)length;
	input->text[input->used] = 0;
	for (char *end; (end = strchr(input->text, '\n'));) {
		*end = 0;
		bool go = strstr(input->text, "\"go\""), freeze = strstr(input->text, "\"freeze\"");
		if (freeze)
			return false;
		if (go && filter->phase == PHASE_SEIZED) {
			int error = filter_go(filter);
			if (error || !report_event("running"))
				return false;
		} else if (!go) {
			log_line("expected {\"cmd\":\"go\"} or {\"cmd\":\"freeze\"}, got %s", input->text);
		}
		input->used -= (size_t)(end + 1 - input->text);
		memmove(input->text, end + 1, input->used + 1);
	}
	return input->used < sizeof(input->text) - 1;
}

/* Milliseconds until the next step of paging the processes' memory out; -1: there is none. */
static int rest_in(const struct filter *filter, const struct timespec *since)
{
	struct timespec now;
	int after = filter->rest_after_ms + (filter->rest == REST_NONE ? 0 : WRITTEN_MS);

	if (filter->rest == REST_LET_GO || filter->rest_after_ms < 0)
		return -1;
	clock_gettime(CLOCK_MONOTONIC, &now);
	long past = (now.tv_sec - since->tv_sec) * 1000 + (now.tv_nsec - since->tv_nsec) / 1000000;
	return past < after ? (int)(after - past) : 0;
}

enum source { CONTROL, GATE, CHECKS, SOURCES };

/* Takes what has come from other sources than the threads. False when that tells to end. */
static bool attend(struct filter *filter, const struct pollfd *sources, struct input *input)
{
	if (sources[GATE].revents || sources[CHECKS].revents)
		filter_handle_connections(filter);
	return filter->phase == PHASE_FROZEN || !sources[CONTROL].revents || obey(filter, input);
}

static void serve(struct filter *filter)
{
	struct input input = { .used = 0 };
	struct pollfd sources[SOURCES] = { { STDIN_FILENO, POLLIN, 0 }, { filter->gate ? gate_fd(filter->gate) : -1, POLLIN, 0 },
		{ filter->checks, POLLIN, 0 } };
	int unheard = waiting_watch(STDIN_FILENO);
	bool go_on = !unheard, only_stops = false, was_running = false;
	struct timespec running_since;

	if (unheard)
		report_error("watch the standard input", unheard);
	while (go_on && filter->phase != PHASE_FROZEN) {
		if (!was_running && filter->phase == PHASE_RUNNING)
			was_running = !clock_gettime(CLOCK_MONOTONIC, &running_since);
		int left = was_running ? rest_in(filter, &running_since) : -1;
		if (left == 0)
			filter_rest(filter);
		/* A source tells once of what has come: all are looked at until none has anything left. */
		int ready = only_stops ? 0 : poll(sources, SOURCES, 0);
		if (ready == 0)
			only_stops = waiting_for_stop(left);
		filter_handle_stops(filter);
		if (ready && filter->phase != PHASE_FROZEN)
			go_on = ready > 0 ? attend(filter, sources, &input) : errno == EINTR;
		go_on = go_on && !waiting_told_to_end();
		if (filter->guardian_died) {
			report_error("guardian died", 0);
			go_on = false;
		}
	}
}

static int add_thread(void *set, pid_t tid)
{
	return set_add(set, tid) || errno == ESRCH ? 0 : -errno;
}

static int print_unread(const struct cgroup *cgroup)
{
	struct set set = { 0 };
	int count = cgroup_is_frozen(cgroup) ? cgroup_each_thread(cgroup, add_thread, &set) : -EBUSY;

	if (count < 0)
		report_error("look for unread datagrams", count);
	else
		datagrams_each(&set, report_returned);
	return count < 0;
}

int main(int argc, char **argv)
{
	struct options options = parse(argc, argv);
	struct cgroup cgroup;
	struct guardian guardian;

	signal(SIGPIPE, SIG_IGN);
	int error = cgroup_open(&cgroup, options.cgroup);
	if (!error && options.unread)
		return print_unread(&cgroup);
	if (!error)
		error = guardian_start(&guardian, &cgroup);
	if (error) {
		report_error("open the cgroup", error);
		return 1;
	}
	waiting_open();
	int child_events = signals_open();
	struct filter filter = { .cgroup = &cgroup, .accept_triggers = options.accept_triggers, .gate_plan = options.gate,
		.profile = options.profile, .rest_after_ms = options.rest_after_ms,
		.checks = -1, .guardian = guardian.pid,
		.child_events = child_events };
	error = filter_seize(&filter, options.external_file);
	if (error) {
		report_error("seize", error);
	} else {
		report_seized(filter.set.threads_count);
		serve(&filter);
	}
	int unfrozen = filter_freeze(&filter);
	if (!unfrozen)
		guardian_dismiss(&guardian);
	return error || unfrozen || filter.guardian_died;
}
