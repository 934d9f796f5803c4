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

static bool send_line(struct line *line)
{
	if (line->used > sizeof(line->text) - 2)
		line->used = sizeof(line->text) - 2;
	line->text[line->used++] = '\n';
	for (size_t sent = 0; sent < line->used;) {
		ssize_t wrote = write(STDOUT_FILENO, line->text + sent, line->used - sent);
		if (wrote < 0 && errno != EINTR)
			return false;
		sent += wrote < 0 ? 0 : (size_t)wrote;
	}
	return true;
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

void report_returned(const uint8_t *mac, const uint8_t *packet, size_t length)
{
	struct line line = { .used = 0 };

	put(&line, "{\"event\":\"returned\",\"mac\":\"");
	for (size_t i = 0; i < 6; i++)
		put(&line, "%02x", mac[i]);
	put(&line, "\",\"packet\":\"");
	for (size_t i = 0; i < length; i++)
		put(&line, "%02x", packet[i]);
	put(&line, "\"}");
	send_line(&line);
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
