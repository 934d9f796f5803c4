#define _GNU_SOURCE
#include "observations.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 2048

struct entry {
	char program[16], call[32], effect[8];
	char *path, *detail;
	enum rule_id rule;
	int pid;
	long count, first, last; /* milliseconds since the beginning */
};

struct observations {
	struct entry entries[MOST];
	size_t count;
	long others;
};

struct observations *observations_new(void)
{
	return calloc(1, sizeof(struct observations));
}

static struct entry *find(struct observations *observations, const struct observation *seen, const char *effect)
{
	for (size_t i = 0; i < observations->count; i++) {
		struct entry *entry = &observations->entries[i];
		if (entry->rule == seen->rule && !strcmp(entry->program, seen->program) && !strcmp(entry->call, seen->call) &&
		    !strcmp(entry->effect, effect) && !strcmp(entry->path, seen->path))
			return entry;
	}
	return NULL;
}

void observations_note(struct observations *observations, const struct observation *seen, long milliseconds)
{
	const char *effect = seen->effect ? seen->effect : "";
	struct entry *entry = find(observations, seen, effect);

	if (!entry && observations->count == MOST) {
		observations->others++;
		return;
	}
	if (!entry) {
		entry = &observations->entries[observations->count];
		*entry = (struct entry){ .path = strdup(seen->path), .detail = strdup(seen->detail), .rule = seen->rule, .pid = seen->pid,
			.first = milliseconds };
		if (!entry->path || !entry->detail)
			return;
		snprintf(entry->program, sizeof(entry->program), "%s", seen->program);
		snprintf(entry->call, sizeof(entry->call), "%s", seen->call);
		snprintf(entry->effect, sizeof(entry->effect), "%s", effect);
		observations->count++;
	}
	entry->count++;
	entry->last = milliseconds;
}

static void print_text(const char *key, const char *text)
{
	printf("\"%s\":\"", key);
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if (*c == '"' || *c == '\\')
			printf("\\%c", *c);
		else if (*c < ' ' || *c == 0x7f)
			printf("\\u%04x", *c);
		else
			putchar(*c);
	}
	printf("\",");
}

void observations_print(const struct observations *observations)
{
	for (size_t i = 0; i < observations->count; i++) {
		const struct entry *entry = &observations->entries[i];
		printf("{\"event\":\"activity\",");
		print_text("program", entry->program);
		print_text("syscall", entry->call);
		print_text("rule", rules[entry->rule].name);
		print_text("detail", entry->detail);
		if (*entry->effect)
			print_text("effect", entry->effect);
		if (*entry->path)
			print_text("path", entry->path);
		printf("\"pid\":%d,\"count\":%ld,\"firstMs\":%ld,\"lastMs\":%ld}\n", entry->pid, entry->count, entry->first, entry->last);
	}
	if (observations->others)
		printf("{\"event\":\"others\",\"count\":%ld}\n", observations->others);
}
