/* What the filter says: events as JSON lines on standard output, logs on standard error. */
#ifndef REPORT_H
#define REPORT_H

#include "process.h"
#include "rules.h"

/* What woke the VM. `call` is empty when no call did (a signal, a killed process). */
struct trigger {
	int inner_pid, inner_tid;
	const char *program;
	const char *call_name;
	uint64_t nr;
	uint64_t args[6];
	enum rule_id rule;
	const char *detail;
	int fd; /* -1: none */
	const char *fd_kind, *fd_target;
	const char *client; /* NULL: none is known */
};

/* Each writes one line at once. False when nobody reads any more. */
bool report_seized(size_t tasks);
bool report_event(const char *event);
bool report_exited(int inner_pid, const char *program, int status);
bool report_trigger(const struct trigger *trigger, long handled_microseconds);
/* A packet that the VM must get: the Ethernet address that it came from (zeros: not known) and itself, from its IP header on. */
void report_returned(const uint8_t *mac, const uint8_t *packet, size_t length);
bool report_error(const char *step, int error);

/* Prints every rule and call as one JSON object. */
void report_rules(void);

__attribute__((format(printf, 1, 2))) void log_line(const char *format, ...);

#endif
