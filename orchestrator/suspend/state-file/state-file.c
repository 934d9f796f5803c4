/*
 * The file that a VM's memory is in while its QEMU is gone.
 *
 * state-file save SOCKET PARTIAL          takes what QEMU sends to SOCKET; returns when it listens, and goes on in the background
 * state-file finish PARTIAL FILE CLAIM    waits until all is on the disk, and only then gives it its name; stdin becomes CLAIM
 * state-file load SOCKET FILE             sends it to a QEMU that listens at SOCKET
 * state-file forget CLAIM                 removes CLAIM; it is gone, also after a power cut, when this returns
 *
 * FILE is QEMU's own stream and then a trailer with its length and checksum (CRC-32C). `load` hands the last block over only when
 * the checksum holds: of a damaged file QEMU never gets all, so it never runs it. CLAIM says that FILE is a VM's memory, and
 * comes last. `save` holds a lock on PARTIAL for as long as it works, by which `finish` knows. No privilege is needed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BLOCK (1u << 20)
/* So much is given to the disk at a time, so that the end has not all of it to wait for. */
#define WRITE_BEHIND (64u << 20)
#define ACCEPT_MS 30000
#define FINISH_S 600
#define CORRUPT 3

static const char MAGIC[8] = "SEAMLES1";

struct trailer {
	char magic[8];
	uint64_t bytes;
	uint32_t crc, reserved;
};

/* Where the background half of `save` leaves its last words. */
static char errors_path[4096];
static int partial_file = -1;

static _Noreturn void die(int status, const char *format, ...)
{
	char text[4352];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (*errors_path) {
		/* On a full disk this makes the room for them. */
		if (ftruncate(partial_file, 0))
			status = 1;
		int fd = open(errors_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (fd >= 0 && write(fd, text, strlen(text)) >= 0)
			close(fd);
	} else {
		fprintf(stderr, "state-file: %s\n", text);
	}
	exit(status);
}

static _Noreturn void fail(const char *what)
{
	die(1, "%s: %s", what, strerror(errno));
}

static uint32_t crc_table[8][256];

static void crc_prepare(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t crc = i;
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
		crc_table[0][i] = crc;
	}
	for (int slice = 1; slice < 8; slice++)
		for (int i = 0; i < 256; i++)
			crc_table[slice][i] = crc_table[slice - 1][i] >> 8 ^ crc_table[0][crc_table[slice - 1][i] & 255];
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t crc_by_processor(uint32_t crc, const uint8_t *at, size_t count)
{
	uint64_t wide = crc, word;

	for (; count >= 8; at += 8, count -= 8) {
		memcpy(&word, at, 8);
		wide = __builtin_ia32_crc32di(wide, word);
	}
	for (crc = (uint32_t)wide; count; count--)
		crc = __builtin_ia32_crc32qi(crc, *at++);
	return crc;
}
#endif

/* CRC-32C, begun and ended with all bits set by the caller. */
static uint32_t crc_add(uint32_t crc, const uint8_t *at, size_t count)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("sse4.2"))
		return crc_by_processor(crc, at, count);
#endif
	for (; count >= 8; at += 8, count -= 8) {
		uint32_t low = crc ^ ((uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24);
		crc = crc_table[7][low & 255] ^ crc_table[6][low >> 8 & 255] ^ crc_table[5][low >> 16 & 255] ^ crc_table[4][low >> 24] ^
		      crc_table[3][at[4]] ^ crc_table[2][at[5]] ^ crc_table[1][at[6]] ^ crc_table[0][at[7]];
	}
	for (; count; count--)
		crc = crc >> 8 ^ crc_table[0][(crc ^ *at++) & 255];
	return crc;
}

static int unix_socket(const char *path, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(address->sun_path))
		die(1, "expected a socket's path of less than %zu characters, got %s", sizeof(address->sun_path), path);
	strcpy(address->sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		fail("socket");
	return fd;
}

static void write_all(int fd, const void *data, size_t count, const char *what)
{
	for (const char *at = data; count;) {
		ssize_t written = write(fd, at, count);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			fail(what);
		at += written;
		count -= (size_t)written;
	}
}

/* A whole block, or what there is until the end. */
static size_t read_block(int fd, uint8_t *block, const char *what)
{
	size_t have = 0;

	while (have < BLOCK) {
		ssize_t got = read(fd, block + have, BLOCK - have);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			fail(what);
		if (got == 0)
			break;
		have += (size_t)got;
	}
	return have;
}

static void sync_folder_of(const char *path)
{
	char *copy = strdup(path);
	int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd < 0 || fsync(fd))
		fail(path);
	close(fd);
	free(copy);
}

static int accept_one(int listener)
{
	struct pollfd waiting = { .fd = listener, .events = POLLIN };

	if (poll(&waiting, 1, ACCEPT_MS) <= 0)
		die(1, "QEMU did not connect in %d ms", ACCEPT_MS);
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		fail("accept");
	return fd;
}

static void receive(int from, int file, const char *path)
{
	static uint8_t block[BLOCK];
	struct trailer trailer = { .crc = ~0u };
	uint64_t begun = 0;

	memcpy(trailer.magic, MAGIC, sizeof(MAGIC));
	for (size_t have; (have = read_block(from, block, "read from QEMU"));) {
		trailer.crc = crc_add(trailer.crc, block, have);
		write_all(file, block, have, path);
		trailer.bytes += have;
		if (trailer.bytes - begun >= WRITE_BEHIND) {
			sync_file_range(file, (off_t)begun, (off_t)(trailer.bytes - begun), SYNC_FILE_RANGE_WRITE);
			begun = trailer.bytes;
		}
	}
	trailer.crc = ~trailer.crc;
	write_all(file, &trailer, sizeof(trailer), path);
	if (fsync(file))
		fail(path);
}

static void save(const char *socket_path, const char *partial)
{
	char errors[sizeof(errors_path)];
	struct sockaddr_un address;
	int listener = unix_socket(socket_path, &address);

	snprintf(errors, sizeof(errors), "%s.error", partial);
	unlink(errors);
	unlink(socket_path);
	int file = open(partial, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (file < 0 || flock(file, LOCK_EX | LOCK_NB))
		fail(partial);
	mode_t mask = umask(0177);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 1))
		fail(socket_path);
	umask(mask);
	pid_t child = fork();
	if (child < 0)
		fail("fork");
	if (child > 0)
		exit(0);
	setsid();
	memcpy(errors_path, errors, sizeof(errors));
	partial_file = file;
	int nothing = open("/dev/null", O_RDWR);
	for (int fd = 0; fd < 3; fd++)
		dup2(nothing, fd);
	int qemu = accept_one(listener);
	close(listener);
	unlink(socket_path);
	receive(qemu, file, partial);
}

static struct trailer read_trailer(int file, const char *path)
{
	struct trailer trailer;
	struct stat status;

	if (fstat(file, &status))
		fail(path);
	off_t at = status.st_size - (off_t)sizeof(trailer);
	if (at < 0 || pread(file, &trailer, sizeof(trailer), at) != sizeof(trailer) || memcmp(trailer.magic, MAGIC, sizeof(MAGIC)) ||
	    trailer.bytes != (uint64_t)at)
		die(CORRUPT, "%s is not whole", path);
	return trailer;
}

static void write_claim(const char *path)
{
	char partial[4096], text[65536];
	size_t have = fread(text, 1, sizeof(text), stdin);

	snprintf(partial, sizeof(partial), "%s.partial", path);
	int fd = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		fail(partial);
	write_all(fd, text, have, partial);
	if (fsync(fd) || close(fd) || rename(partial, path))
		fail(path);
	sync_folder_of(path);
}

static void finish(const char *partial, const char *path, const char *claim)
{
	char errors[4096], said[4096] = "";
	int file = open(partial, O_RDONLY | O_CLOEXEC);

	if (file < 0)
		fail(partial);
	alarm(FINISH_S);
	if (flock(file, LOCK_SH))
		fail(partial);
	snprintf(errors, sizeof(errors), "%s.error", partial);
	int fd = open(errors, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (read(fd, said, sizeof(said) - 1) < 0)
			fail(errors);
		die(1, "%s", said);
	}
	struct trailer trailer = read_trailer(file, partial);
	if (rename(partial, path))
		fail(path);
	sync_folder_of(path);
	write_claim(claim);
	printf("{\"bytes\":%" PRIu64 ",\"crc32c\":\"%08" PRIx32 "\"}\n", trailer.bytes, trailer.crc);
}

static void load(const char *socket_path, const char *path)
{
	static uint8_t block[BLOCK];
	struct sockaddr_un address;
	int file = open(path, O_RDONLY | O_CLOEXEC);
	uint32_t crc = ~0u;

	if (file < 0)
		fail(path);
	struct trailer trailer = read_trailer(file, path);
	int qemu = unix_socket(socket_path, &address);
	if (connect(qemu, (struct sockaddr *)&address, sizeof(address)))
		fail(socket_path);
	posix_fadvise(file, 0, 0, POSIX_FADV_SEQUENTIAL);
	for (uint64_t left = trailer.bytes; left;) {
		size_t have = read_block(file, block, path);
		if (have > left)
			have = (size_t)left;
		if (!have)
			die(CORRUPT, "%s has shrunk", path);
		left -= have;
		crc = crc_add(crc, block, have);
		if (!left && ~crc != trailer.crc)
			die(CORRUPT, "the checksum of %s does not hold: expected %08" PRIx32 ", got %08" PRIx32, path, trailer.crc, ~crc);
		write_all(qemu, block, have, "send to QEMU");
	}
	printf("{\"bytes\":%" PRIu64 "}\n", trailer.bytes);
}

static void forget(const char *claim)
{
	if (unlink(claim) && errno != ENOENT)
		fail(claim);
	sync_folder_of(claim);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	crc_prepare();
	if (argc == 4 && !strcmp(argv[1], "save"))
		save(argv[2], argv[3]);
	else if (argc == 5 && !strcmp(argv[1], "finish"))
		finish(argv[2], argv[3], argv[4]);
	else if (argc == 4 && !strcmp(argv[1], "load"))
		load(argv[2], argv[3]);
	else if (argc == 3 && !strcmp(argv[1], "forget"))
		forget(argv[2]);
	else {
		fputs("usage: state-file save SOCKET PARTIAL | finish PARTIAL FILE CLAIM | load SOCKET FILE | forget CLAIM\n", stderr);
		return 2;
	}
	return 0;
}
