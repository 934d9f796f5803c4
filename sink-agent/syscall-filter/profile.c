#define _GNU_SOURCE
#include "profile.h"

#include <asm/ioctls.h>
#include <asm/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PROGRAM_SIZE 16

/* What the kernel calls O_LARGEFILE; to the C library it is nothing, but some programs say it. */
#ifdef __aarch64__
#define KERNEL_LARGEFILE 0400000
#else
#define KERNEL_LARGEFILE 0100000
#endif

enum effect { EFFECT_STAT, EFFECT_OPEN, EFFECT_LIST, EFFECT_DENY, EFFECT_CALL, EFFECT_READ };

static const char *const effect_names[] = { "stat", "open", "list", "deny", "call" };

struct entry {
	char program[PROGRAM_SIZE];
	enum effect effect;
	char *path;
	int nr; /* of a call without path */
};

struct profile {
	struct entry *entries;
	size_t count;
};

/* What each effect covers. `directory` and `path` are argument numbers; directory -1: the working directory. */
static const struct look {
	int nr;
	enum effect effect;
	int directory, path;
} looks[] = {
	{ __NR_newfstatat, EFFECT_STAT, 0, 1 }, { __NR_statx, EFFECT_STAT, 0, 1 }, { __NR_faccessat, EFFECT_STAT, 0, 1 },
	{ __NR_faccessat2, EFFECT_STAT, 0, 1 }, { __NR_readlinkat, EFFECT_STAT, 0, 1 }, { __NR_openat, EFFECT_OPEN, 0, 1 },
#ifdef __NR_open
	{ __NR_stat, EFFECT_STAT, -1, 0 }, { __NR_lstat, EFFECT_STAT, -1, 0 }, { __NR_access, EFFECT_STAT, -1, 0 },
	{ __NR_readlink, EFFECT_STAT, -1, 0 }, { __NR_open, EFFECT_OPEN, -1, 0 },
	{ __NR_getdents, EFFECT_LIST, 0, 0 },
#endif
	{ __NR_read, EFFECT_READ, 0, 0 }, { __NR_readv, EFFECT_READ, 0, 0 }, { __NR_pread64, EFFECT_READ, 0, 0 },
	{ __NR_preadv, EFFECT_READ, 0, 0 }, { __NR_lseek, EFFECT_READ, 0, 0 }, { __NR_fstat, EFFECT_READ, 0, 0 },
	{ __NR_close, EFFECT_READ, 0, 0 }, { __NR_fcntl, EFFECT_READ, 0, 0 }, { __NR_ioctl, EFFECT_READ, 0, 0 },
	{ __NR_getdents64, EFFECT_LIST, 0, 0 }, { __NR_sysinfo, EFFECT_CALL, 0, 0 },
};

static const struct look *look_of(int nr)
{
	for (size_t i = 0; i < sizeof(looks) / sizeof(looks[0]); i++)
		if (looks[i].nr == nr)
			return &looks[i];
	return NULL;
}

static bool matches(const char *pattern, const char *path)
{
	const char *name = strrchr(pattern, '/') + 1;
	size_t folder = (size_t)(name - pattern);

	return !strncmp(pattern, path, folder) && !strchr(path + folder, '/') &&
	       !fnmatch(name, path + folder, FNM_PERIOD | FNM_NOESCAPE);
}

static bool lists(const struct world *world, enum effect effect, const char *path, int nr)
{
	const struct profile *profile = world->profile;

	for (size_t i = 0; i < profile->count; i++) {
		const struct entry *entry = &profile->entries[i];
		if (entry->effect == effect && !strcmp(entry->program, world->program) &&
		    (path ? matches(entry->path, path) : entry->nr == nr))
			return true;
	}
	return false;
}

/* Appends `more` to an absolute path without its empty and `.` components. False for `..`, and for what is too long. */
static bool append(char *path, size_t size, const char *more)
{
	while (*more) {
		size_t length = strcspn(more, "/"), used = strcmp(path, "/") ? strlen(path) : 0;
		if (length == 2 && !strncmp(more, "..", 2))
			return false;
		if (length > 0 && !(length == 1 && *more == '.')) {
			if (used + 1 + length >= size)
				return false;
			path[used] = '/';
			memcpy(path + used + 1, more, length);
			path[used + 1 + length] = 0;
		}
		more += length + (more[length] == '/');
	}
	return true;
}

/* Page by page: the string may end just before one that can't be read. */
static bool copy_string(const struct world *world, uint64_t address, char *to, size_t size)
{
	for (size_t used = 0; used < size;) {
		size_t part = 256 - (address + used) % 256;
		part = part < size - used ? part : size - used;
		if (!world->memory(world->self, address + used, to + used, part))
			return false;
		if (memchr(to + used, 0, part))
			return true;
		used += part;
	}
	return false;
}

/* What a process finds below its own number in /proc it finds below /proc/self; so it is listed. */
static void name_own_proc(const struct world *world, char *path)
{
	char own[32], rest[PATH_MAX];
	int length = snprintf(own, sizeof(own), "/proc/%d/", world->pid);

	if (strncmp(path, own, (size_t)length) || strlen(path) + sizeof("self") >= PATH_MAX)
		return;
	strcpy(rest, path + length);
	strcpy(path, "/proc/self/");
	strcat(path, rest);
}

/* The absolute path that a call names, as the container sees it. */
static bool path_of(const struct world *world, const struct look *look, const uint64_t *args, char *path)
{
	char named[PATH_MAX], from[PATH_MAX];

	if (!copy_string(world, args[look->path], named, sizeof(named)) || !*named)
		return false;
	/* Asked in any case: a process with a root of its own has no paths that we know. */
	int directory = *named == '/' || look->directory < 0 ? AT_FDCWD : (int)args[look->directory];
	if (!world->path_of(world->self, directory, from, sizeof(from)))
		return false;
	strcpy(path, "/");
	if (!append(path, PATH_MAX, *named == '/' ? "" : from) || !append(path, PATH_MAX, named))
		return false;
	name_own_proc(world, path);
	return true;
}

/* EFFECT_OPEN, EFFECT_LIST, or EFFECT_DENY: what no profile can allow. */
static enum effect effect_of_open(const struct look *look, const uint64_t *args)
{
	const uint64_t harmless = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | KERNEL_LARGEFILE;
	uint64_t rest = args[look->path + 1] & ~harmless;

	return rest == O_RDONLY ? EFFECT_OPEN : rest == (O_RDONLY | O_DIRECTORY) ? EFFECT_LIST : EFFECT_DENY;
}

/* fstat in other words, see objects.c. */
static bool means_descriptor(const struct world *world, const struct call *call, const uint64_t *args)
{
	char first = 0;
	uint64_t flags = call->nr == __NR_newfstatat ? args[3] : call->nr == __NR_statx ? args[2] : 0;

	return (flags & AT_EMPTY_PATH) && (!args[1] || (world->memory(world->self, args[1], &first, 1) && !first));
}

static bool reads(const struct world *world, int nr, const uint64_t *args, char *path)
{
	int fd = (int)args[0];

	if (nr == __NR_fcntl && args[1] != F_GETFD && args[1] != F_SETFD && args[1] != F_GETFL)
		return false;
	if (nr == __NR_ioctl && (uint32_t)args[1] != TCGETS) /* isatty() */
		return false;
	if (world->kind(world->self, fd) != KIND_FILE || !world->read_only(world->self, fd) ||
	    !world->path_of(world->self, fd, path, PATH_MAX))
		return false;
	name_own_proc(world, path);
	return true;
}

const char *profile_effect(const struct world *world, const struct call *call, const uint64_t *args, char *path)
{
	const struct look *look = look_of(call->nr);

	*path = 0;
	if (!look)
		return NULL;
	if (look->effect == EFFECT_LIST)
		return reads(world, call->nr, args, path) ? effect_names[EFFECT_LIST] : NULL;
	if (look->effect == EFFECT_READ || means_descriptor(world, call, args))
		return reads(world, call->nr, args, path) ? "read" : NULL;
	enum effect effect = look->effect == EFFECT_OPEN ? effect_of_open(look, args) : look->effect;
	if (effect == EFFECT_DENY || (effect != EFFECT_CALL && !path_of(world, look, args, path)))
		return NULL;
	return effect_names[effect];
}

/* Of a descriptor, without its content: what may be done with an open folder beside listing it. */
static bool is_about_descriptor(int nr)
{
	return nr == __NR_fstat || nr == __NR_newfstatat || nr == __NR_statx || nr == __NR_fcntl || nr == __NR_close;
}

bool profile_allows(const struct world *world, const struct call *call, const uint64_t *args)
{
	char path[PATH_MAX];
	const char *effect = profile_effect(world, call, args, path);

	if (!effect)
		return false;
	if (*effect == 'c')
		return lists(world, EFFECT_CALL, NULL, call->nr);
	if (*effect == 's')
		return lists(world, EFFECT_STAT, path, 0);
	if (*effect == 'l')
		return lists(world, EFFECT_LIST, path, 0);
	if (*effect == 'r' && is_about_descriptor(call->nr) && lists(world, EFFECT_LIST, path, 0))
		return true;
	/* A descriptor of a file that may be opened, whoever opened it: the sink has that file's content. */
	return lists(world, EFFECT_OPEN, path, 0) && !lists(world, EFFECT_DENY, path, 0);
}

/* The text of "key":"…" in a line; false when it is not there or too long. */
static bool field(const char *line, const char *key, char *value, size_t size)
{
	char start[32];

	snprintf(start, sizeof(start), "\"%s\":\"", key);
	const char *at = strstr(line, start);
	const char *end = at ? strchr(at + strlen(start), '"') : NULL;
	if (!end)
		return false;
	at += strlen(start);
	return snprintf(value, size, "%.*s", (int)(end - at), at) < (int)size;
}

static bool parse(const char *line, struct entry *entry)
{
	char effect[8], call[32], path[PATH_MAX];
	size_t kind = 0;

	*entry = (struct entry){ .nr = -1 };
	if (strchr(line, '\\') || !field(line, "program", entry->program, sizeof(entry->program)) ||
	    !field(line, "effect", effect, sizeof(effect)))
		return false;
	while (kind < sizeof(effect_names) / sizeof(effect_names[0]) && strcmp(effect_names[kind], effect))
		kind++;
	entry->effect = (enum effect)kind;
	if (kind < EFFECT_CALL) {
		if (!field(line, "path", path, sizeof(path)) || *path != '/')
			return false;
		return (entry->path = strdup(path)) != NULL;
	}
	if (kind != EFFECT_CALL || !field(line, "call", call, sizeof(call)))
		return false;
	for (size_t i = 0; i < calls_count; i++)
		if (!strcmp(calls[i].name, call))
			entry->nr = calls[i].nr;
	const struct look *look = look_of(entry->nr);
	return look && look->effect == EFFECT_CALL;
}

struct profile *profile_read(const char *name)
{
	struct profile *profile = calloc(1, sizeof(*profile));
	FILE *file = fopen(name, "re");
	char line[PATH_MAX + 256];
	bool good = profile && file;

	while (good && fgets(line, sizeof(line), file)) {
		struct entry *grown = reallocarray(profile->entries, profile->count + 1, sizeof(*grown));
		good = grown && strchr(line, '\n') && parse(line, &grown[profile->count]);
		if (grown)
			profile->entries = grown;
		profile->count += good;
		if (!good)
			errno = EINVAL;
	}
	if (file)
		fclose(file);
	return good ? profile : NULL;
}

void profile_explain(void)
{
	const char *separator = "";

	printf("{");
	for (int effect = EFFECT_STAT; effect <= EFFECT_READ; effect++) {
		if (effect == EFFECT_DENY)
			continue;
		printf("%s\"%s\":[", separator, effect == EFFECT_READ ? "read" : effect_names[effect]);
		separator = "";
		for (size_t i = 0; i < sizeof(looks) / sizeof(looks[0]); i++)
			if ((int)looks[i].effect == effect && call_of((uint64_t)looks[i].nr)) {
				printf("%s\"%s\"", separator, call_of((uint64_t)looks[i].nr)->name);
				separator = ",";
			}
		printf("]");
		separator = ",";
	}
	printf("}");
}
