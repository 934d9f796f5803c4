#include "report.h"

#include "profile.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct line {
	char text[4096];
	size_t used;
};

__attribute__((format(printf, 2, 3))) static void put(struct line *line, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	int length = vsnprintf(line->text + line->used, sizeof(line->text) - line->used, format, list);
	va_end(list);
	if (length > 0)
		line->used += (size_t)length;
	if (line->used >= sizeof(line->text))
		line->used = sizeof(line->text) - 1;
}

static void put_json(struct line *line, const char *key, const char *value)
{
	put(line, "\"%s\":\"", key);
	for (const unsigned char *c = (const unsigned char *)value; *c; c++) {
		if (*c == '"' || *c == '\\')
			put(line, "\\%c", *c);
		else if (*c < ' ' || *c == 0x7f)
			put(line, "\\u%04x", *c);
		else
			put(line, "%c", *c);
	}
	put(line, "\"");
}

static bool send_text(const char *text, size_t length)
{
	for (size_t sent = 0; sent < length;) {
		ssize_t wrote = write(STDOUT_FILENO, text + sent, length - sent);
		if (wrote < 0 && errno != EINTR)
			return false;
		sent += wrote < 0 ? 0 : (size_t)wrote;
	}
	return true;
}

static bool send_line(struct line *line)
{
	if (line->used > sizeof(line->text) - 2)
		line->used = sizeof(line->text) - 2;
	line->text[line->used++] = '\n';
	return send_text(line->text, line->used);
}

bool report_seized(size_t tasks)
{
	struct line line = { .used = 0 };

	put(&line, "{\"event\":\"seized\",\"tasks\":%zu}", tasks);
	return send_line(&line);
}

bool report_event(const char *event)
{
	struct line line = { .used = 0 };

	put(&line, "{\"event\":\"%s\"}", event);
	return send_line(&line);
}

bool report_exited(int inner_pid, const char *program, int status)
{
	struct line line = { .used = 0 };

	put(&line, "{\"event\":\"exited\",\"pid\":%d,", inner_pid);
	put_json(&line, "program", program);
	put(&line, WIFSIGNALED(status) ? ",\"signal\":%d}" : ",\"status\":%d}",
	    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	return send_line(&line);
}

bool report_trigger(const struct trigger *trigger, long handled_microseconds)
{
	struct line line = { .used = 0 };

	put(&line, "{\"event\":\"trigger\",\"pid\":%d,\"tid\":%d,", trigger->inner_pid, trigger->inner_tid);
	put_json(&line, "program", trigger->program);
	put(&line, ",");
	put_json(&line, "syscall", trigger->call_name);
	put(&line, ",\"nr\":%lld,\"args\":[", (long long)trigger->nr);
	for (int i = 0; i < 6; i++)
		put(&line, "%s\"0x%llx\"", i ? "," : "", (unsigned long long)trigger->args[i]);
	put(&line, "],");
	put_json(&line, "detail", trigger->detail);
	put(&line, ",");
	put_json(&line, "rule", rules[trigger->rule].name);
	if (trigger->fd >= 0) {
		put(&line, ",\"fd\":{\"number\":%d,", trigger->fd);
		put_json(&line, "kind", trigger->fd_kind);
		put(&line, ",");
		put_json(&line, "target", trigger->fd_target);
		put(&line, "}");
	}
	if (trigger->client) {
		put(&line, ",");
		put_json(&line, "client", trigger->client);
	}
	put(&line, ",\"handledUs\":%ld}", handled_microseconds);
	return send_line(&line);
}

/* A packet may be longer than a line of ours has room for: it goes out in pieces. */
static void send_hex(const uint8_t *bytes, size_t length)
{
	char text[1024];

	for (size_t at = 0; at < length;) {
		size_t used = 0;
		for (; at < length && used < sizeof(text) - 2; at++, used += 2)
			snprintf(text + used, 3, "%02x", bytes[at]);
		if (!send_text(text, used))
			return;
	}
}

void report_returned(const uint8_t *mac, const uint8_t *packet, size_t length)
{
	static const char start[] = "{\"event\":\"returned\",\"mac\":\"", middle[] = "\",\"packet\":\"", end[] = "\"}\n";

	send_text(start, strlen(start));
	send_hex(mac, 6);
	send_text(middle, strlen(middle));
	send_hex(packet, length);
	send_text(end, strlen(end));
}

bool report_error(const char *step, int error)
{
	struct line line = { .used = 0 };

	put(&line, "{\"event\":\"error\",");
	put_json(&line, "step", step);
	put(&line, ",");
	put_json(&line, "message", error ? strerror(error < 0 ? -error : error) : "failed");
	put(&line, "}");
	return send_line(&line);
}

void report_rules(void)
{
	struct line line;

	puts("{\"rules\":[");
	for (int rule = 0; rule < RULES; rule++) {
		line.used = 0;
		put_json(&line, "name", rules[rule].name);
		put(&line, ",\"allowed\":%s,", rules[rule].allowed ? "true" : "false");
		put_json(&line, "reason", rules[rule].reason);
		printf("{%.*s}%s\n", (int)line.used, line.text, rule + 1 < RULES ? "," : "");
	}
	puts("],\"calls\":[");
	for (size_t i = 0; i < calls_count; i++)
		printf("{\"name\":\"%s\",\"nr\":%d,\"rule\":\"%s\",\"byObject\":%s,\"signature\":\"%s\"}%s\n", calls[i].name,
		       calls[i].nr, rules[calls[i].rule].name, calls[i].decide ? "true" : "false", calls[i].signature,
		       i + 1 < calls_count ? "," : "");
	printf("],\"profile\":");
	profile_explain();
	puts("}");
}

void log_line(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	fputs("syscall-filter: ", stderr);
	vfprintf(stderr, format, list);
	fputc('\n', stderr);
	va_end(list);
}
