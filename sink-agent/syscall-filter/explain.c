#include "explain.h"

#include "decode.h"
#include "mappings.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define MOST 16

struct scene {
	struct {
		int fd;
		enum kind kind;
	} descriptors[MOST];
	struct {
		uint64_t address;
		unsigned char bytes[256];
		size_t length;
	} memory[MOST];
	struct {
		int fd; /* AT_FDCWD: the working directory */
		char path[256];
	} paths[MOST];
	struct mapping mappings[MOST];
	int set[MOST], readable[MOST];
	char program[16];
	size_t descriptors_count, memory_count, set_count, readable_count, paths_count, mappings_count;
};

static enum kind scene_kind(void *self, int fd)
{
	const struct scene *scene = self;

	for (size_t i = 0; i < scene->descriptors_count; i++)
		if (scene->descriptors[i].fd == fd)
			return scene->descriptors[i].kind;
	return KIND_NONE;
}

static bool among(const int *list, size_t count, int value)
{
	for (size_t i = 0; i < count; i++)
		if (list[i] == value)
			return true;
	return false;
}

static bool scene_readable(void *self, int fd)
{
	const struct scene *scene = self;

	return among(scene->readable, scene->readable_count, fd);
}

static bool scene_in_set(void *self, int pid)
{
	const struct scene *scene = self;

	return among(scene->set, scene->set_count, pid);
}

static bool scene_memory(void *self, uint64_t address, void *to, size_t length)
{
	const struct scene *scene = self;

	for (size_t i = 0; i < scene->memory_count; i++) {
		uint64_t start = scene->memory[i].address;
		if (address >= start && address + length <= start + scene->memory[i].length) {
			memcpy(to, scene->memory[i].bytes + (address - start), length);
			return true;
		}
	}
	return false;
}

static bool scene_maps_file(void *self, uint64_t address, uint64_t length, bool shared)
{
	const struct scene *scene = self;

	for (size_t i = 0; i < scene->mappings_count; i++) {
		const struct mapping *mapping = &scene->mappings[i];
		if (address < mapping->end && address + length > mapping->start && (mapping->shared || !shared))
			return true;
	}
	return false;
}

static bool scene_path_of(void *self, int fd, char *path, size_t size)
{
	const struct scene *scene = self;

	for (size_t i = 0; i < scene->paths_count; i++)
		if (scene->paths[i].fd == fd)
			return snprintf(path, size, "%s", scene->paths[i].path) < (int)size;
	return fd == AT_FDCWD && snprintf(path, size, "/");
}

/* All that have a path are. */
static bool scene_read_only(void *self, int fd)
{
	char path[256];

	return scene_path_of(self, fd, path, sizeof(path));
}

/* `key=value`: a part of the world. False when it is none. */
static bool set_scene(struct scene *scene, struct world *world, char *word)
{
	char *value = strchr(word, '=');

	if (!value || scene->descriptors_count == MOST || scene->memory_count == MOST || scene->set_count == MOST ||
	    scene->readable_count == MOST || scene->paths_count == MOST || scene->mappings_count == MOST)
		return false;
	*value++ = 0;
	if (!strcmp(word, "pid")) {
		world->pid = scene->set[scene->set_count++] = atoi(value);
	} else if (!strcmp(word, "set")) {
		scene->set[scene->set_count++] = atoi(value);
	} else if (!strcmp(word, "readable")) {
		scene->readable[scene->readable_count++] = atoi(value);
	} else if (!strcmp(word, "program")) {
		snprintf(scene->program, sizeof(scene->program), "%s", value);
	} else if (!strncmp(word, "path:", 5)) {
		scene->paths[scene->paths_count].fd = atoi(word + 5);
		snprintf(scene->paths[scene->paths_count++].path, sizeof(scene->paths[0].path), "%s", value);
	} else if (!strcmp(word, "maps") || !strcmp(word, "maps-shared")) {
		char *end;
		uint64_t start = strtoull(value, &end, 0);
		scene->mappings[scene->mappings_count++] = (struct mapping){ start, strtoull(end + (*end == '-'), NULL, 0), word[4] != 0 };
	} else if (!strcmp(word, "memory")) {
		char *hex;
		scene->memory[scene->memory_count].address = strtoull(value, &hex, 0);
		size_t length = 0;
		unsigned byte;
		for (hex += *hex == ':'; length < 256 && sscanf(hex, "%2x", &byte) == 1; hex += 2)
			scene->memory[scene->memory_count].bytes[length++] = (unsigned char)byte;
		scene->memory[scene->memory_count++].length = length;
	} else {
		int kind = 0;
		while (kind < KINDS && strcmp(kind_names[kind], value))
			kind++;
		if (kind == KINDS)
			return false;
		scene->descriptors[scene->descriptors_count].fd = atoi(word);
		scene->descriptors[scene->descriptors_count++].kind = (enum kind)kind;
	}
	return true;
}

static bool number_of(const char *word, uint64_t *nr)
{
	char *end;

	for (size_t i = 0; i < calls_count; i++)
		if (!strcmp(calls[i].name, word)) {
			*nr = (uint64_t)calls[i].nr;
			return true;
		}
	*nr = strtoull(word, &end, 0);
	return isdigit((unsigned char)*word) && !*end;
}

int explain_decisions(FILE *input, const struct profile *profile)
{
	char line[4096];

	while (fgets(line, sizeof(line), input)) {
		struct scene scene = { 0 };
		struct world world = { .self = &scene, .kind = scene_kind, .readable = scene_readable, .in_set = scene_in_set,
			.memory = scene_memory, .maps_file = scene_maps_file, .path_of = scene_path_of, .read_only = scene_read_only,
			.program = scene.program, .profile = profile };
		uint64_t nr = 0, args[6] = { 0 };
		char *save = NULL, *word = strtok_r(line, " \n", &save), shown[512];
		int count = 0;

		if (!word)
			continue;
		bool foreign = !strcmp(word, "foreign");
		bool understood = foreign || number_of(word, &nr);
		while (understood && (word = strtok_r(NULL, " \n", &save))) {
			if (strchr(word, '='))
				understood = set_scene(&scene, &world, word);
			else if (count < 6)
				args[count++] = *word == '-' ? (uint64_t)strtoll(word, NULL, 0) : strtoull(word, NULL, 0);
		}
		if (!understood) {
			fprintf(stderr, "syscall-filter: expected a call and its world, got %s\n", word ? word : line);
			return 2;
		}
		struct decision decision = decide(&world, !foreign, nr, args);
		decode_call(&world, !foreign, nr, args, shown, sizeof(shown));
		printf("{\"rule\":\"%s\",\"allowed\":%s,\"fd\":%d,\"shown\":\"", rules[decision.rule].name,
		       rules[decision.rule].allowed ? "true" : "false", decision.fd);
		for (const char *c = shown; *c; c++)
			printf(*c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
		puts("\"}");
	}
	return 0;
}
