#define _GNU_SOURCE
#include "decode.h"

#include "arch.h"

#include <arpa/inet.h>
#include <asm/unistd.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

struct text {
	char *start;
	size_t size, used;
};

struct flag {
	uint64_t bit;
	const char *name;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *text, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	int length = vsnprintf(text->start + text->used, text->size - text->used, format, list);
	va_end(list);
	if (length > 0)
		text->used = text->used + (size_t)length < text->size ? text->used + (size_t)length : text->size - 1;
}

static void put_flags(struct text *text, uint64_t value, const struct flag *flags, size_t count, const char *zero)
{
	const char *separator = "";

	for (size_t i = 0; i < count; i++)
		if ((value & flags[i].bit) == flags[i].bit) {
			put(text, "%s%s", separator, flags[i].name);
			separator = "|";
			value &= ~flags[i].bit;
		}
	if (value)
		put(text, "%s%#llx", separator, (unsigned long long)value);
	else if (!*separator)
		put(text, "%s", zero);
}

static void put_string(struct text *text, const struct world *world, uint64_t address)
{
	char c = 0;
	int shown = 0;

	if (!address) {
		put(text, "NULL");
		return;
	}
	if (!world->memory(world->self, address, &c, 1)) {
		put(text, "%#llx", (unsigned long long)address);
		return;
	}
	put(text, "\"");
	/* Byte by byte: the string may end just before a page that can't be read. */
	while (c && shown < 200 && world->memory(world->self, address + (uint64_t)shown, &c, 1) && c) {
		put(text, c >= ' ' && c != 0x7f && c != '"' && c != '\\' ? "%c" : "\\x%02x", (unsigned char)c);
		shown++;
	}
	put(text, c ? "\"…" : "\"");
}

static void put_address(struct text *text, const struct world *world, uint64_t address, uint64_t length)
{
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	} name;
	char host[INET6_ADDRSTRLEN] = "?";

	memset(&name, 0, sizeof(name));
	if (!address) {
		put(text, "NULL");
		return;
	}
	if (length < sizeof(sa_family_t) || length > sizeof(name) || !world->memory(world->self, address, &name, length)) {
		put(text, "%#llx", (unsigned long long)address);
		return;
	}
	if (name.any.sa_family == AF_INET) {
		inet_ntop(AF_INET, &name.in.sin_addr, host, sizeof(host));
		put(text, "%s:%u", host, ntohs(name.in.sin_port));
	} else if (name.any.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &name.in6.sin6_addr, host, sizeof(host));
		put(text, "[%s]:%u", host, ntohs(name.in6.sin6_port));
	} else if (name.any.sa_family == AF_UNIX && length > sizeof(sa_family_t)) {
		const char *path = name.un.sun_path;
		put(text, "unix:%s%.*s", *path ? "" : "@", (int)(sizeof(name.un.sun_path) - 1), *path ? path : path + 1);
	} else {
		put(text, "family %u", name.any.sa_family);
	}
}

static void put_open_flags(struct text *text, uint64_t value)
{
	static const struct flag flags[] = { { O_CREAT, "O_CREAT" }, { O_EXCL, "O_EXCL" }, { O_TRUNC, "O_TRUNC" },
		{ O_APPEND, "O_APPEND" }, { O_NONBLOCK, "O_NONBLOCK" }, { O_CLOEXEC, "O_CLOEXEC" }, { O_DIRECTORY, "O_DIRECTORY" },
		{ O_NOFOLLOW, "O_NOFOLLOW" }, { O_NOCTTY, "O_NOCTTY" }, { O_PATH, "O_PATH" } };
	static const char *const modes[] = { "O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE" };

	put(text, "%s", modes[value & O_ACCMODE]);
	if (value & ~(uint64_t)O_ACCMODE) {
		put(text, "|");
		put_flags(text, value & ~(uint64_t)O_ACCMODE, flags, sizeof(flags) / sizeof(flags[0]), "");
	}
}

static void put_signal(struct text *text, uint64_t number)
{
	const char *name = sigabbrev_np((int)number);

	if (name)
		put(text, "SIG%s", name);
	else
		put(text, "%llu", (unsigned long long)number);
}

static void put_clone_flags(struct text *text, uint64_t value)
{
	static const struct flag flags[] = { { CLONE_VM, "CLONE_VM" }, { CLONE_FS, "CLONE_FS" }, { CLONE_FILES, "CLONE_FILES" },
		{ CLONE_SIGHAND, "CLONE_SIGHAND" }, { CLONE_VFORK, "CLONE_VFORK" }, { CLONE_THREAD, "CLONE_THREAD" },
		{ CLONE_SYSVSEM, "CLONE_SYSVSEM" }, { CLONE_SETTLS, "CLONE_SETTLS" }, { CLONE_PARENT_SETTID, "CLONE_PARENT_SETTID" },
		{ CLONE_CHILD_CLEARTID, "CLONE_CHILD_CLEARTID" }, { CLONE_CHILD_SETTID, "CLONE_CHILD_SETTID" },
		{ CLONE_PIDFD, "CLONE_PIDFD" } };

	put_flags(text, value & ~(uint64_t)CSIGNAL, flags, sizeof(flags) / sizeof(flags[0]), "");
	if (value & CSIGNAL) {
		put(text, value & ~(uint64_t)CSIGNAL ? "|" : "");
		put_signal(text, value & CSIGNAL);
	}
}

static void put_argument(struct text *text, const struct world *world, char letter, const uint64_t *args, int i)
{
	uint64_t value = args[i];

	switch (letter) {
	case 'a':
		if ((int)value == AT_FDCWD)
			put(text, "AT_FDCWD");
		else
			put(text, "%d", (int)value);
		break;
	case 'd':
	case 'P':
		put(text, "%d", (int)value);
		break;
	case 'p':
		put_string(text, world, value);
		break;
	case 'f':
		put_open_flags(text, value);
		break;
	case 'm':
		put(text, "%#llo", (unsigned long long)(uint32_t)value);
		break;
	case 'S':
		put_signal(text, value);
		break;
	case 'c':
		put_clone_flags(text, value);
		break;
	case 's':
		put_address(text, world, value, args[i + 1]);
		break;
	case 'i':
		put(text, "%lld", (long long)value);
		break;
	default:
		put(text, "%#llx", (unsigned long long)value);
	}
}

void decode_call(const struct world *world, bool native, uint64_t nr, const uint64_t *args, char *buffer, size_t size)
{
	struct text text = { buffer, size, 0 };
	const char *name = native ? arch_call_name(nr) : NULL;
	const struct call *call = native ? call_of(nr) : NULL;
	const char *signature = call ? call->signature : "xxxxxx";
	bool creates = false;

	*buffer = 0;
	if (name)
		put(&text, "%s(", name);
	else
		put(&text, "%s %llu(", native ? "call" : "foreign call", (unsigned long long)nr);
	for (int i = 0; signature[i]; i++) {
		/* The mode counts only when a file is made. */
		if (signature[i] == 'm' && i && signature[i - 1] == 'f' && !creates)
			break;
		if (signature[i] == 'f')
			creates = (args[i] & O_CREAT) || (args[i] & O_TMPFILE) == O_TMPFILE;
		put(&text, i ? ", " : "");
		put_argument(&text, world, signature[i], args, i);
	}
	if (native && nr == __NR_clone3) {
		uint64_t flags_and_signal[5]; /* flags, pidfd, child_tid, parent_tid, exit_signal */
		if (world->memory(world->self, args[0], flags_and_signal, sizeof(flags_and_signal))) {
			put(&text, ": ");
			put_clone_flags(&text, flags_and_signal[0] | (flags_and_signal[4] & CSIGNAL));
		}
	}
	put(&text, ")");
}
