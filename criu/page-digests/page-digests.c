/*
 * Tells which pages of an image are another's, by digests of those, so that the other image's pages need not be kept.
 * Standard input: lines
 *   note PAGES DIGESTS           writes the digests of each page in PAGES
 *   compare PAGES DIGESTS OUT    then lines `PAGE OTHER COUNT`, and an empty one: runs of PAGES, and where the other image has them
 *                                (-1: nowhere). Pages that differ are appended to OUT; prints a line, `=` or `!` for each page in turn
 *
 * The digest is NH (Black et al., "UMAC", CRYPTO '99) with 64-bit words, twice, by a Toeplitz key: no cipher but a universal hash, of which
 * it is proven that two different pages have the same digest with a probability of at most 2^-128, whatever the pages, as long
 * as they don't depend on the key. The key is random, one for each image, and never leaves this server. Memory itself errs more often.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, PATH = 1024 };
static const char MAGIC[8] = "NHpage1\n";

struct digest {
	unsigned __int128 first, second;
};

/* What a file of digests begins with. */
struct head {
	char magic[8];
	uint64_t pages, key[WORDS + 2];
};
_Static_assert(sizeof(struct head) % sizeof(struct digest) == 0, "digests are aligned");

struct mapping {
	const unsigned char *at;
	size_t bytes;
};

static void fail(const char *what, const char *path)
{
	fprintf(stderr, "page-digests: %s %s: %s\n", what, path, errno ? strerror(errno) : "not as expected");
	exit(1);
}

static struct mapping map(const char *path)
{
	struct stat stat;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	errno = fd < 0 ? errno : 0;
	if (fd < 0 || fstat(fd, &stat) < 0)
		fail("open", path);
	struct mapping mapping = { NULL, (size_t)stat.st_size };
	if (mapping.bytes > 0) {
		void *at = mmap(NULL, mapping.bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
		if (at == MAP_FAILED)
			fail("map", path);
		mapping.at = at;
	}
	close(fd);
	return mapping;
}

static void unmap(struct mapping mapping)
{
	if (mapping.at)
		munmap((void *)(uintptr_t)mapping.at, mapping.bytes);
}

static struct digest digest_of(const unsigned char *page, const uint64_t *key)
{
	struct digest digest = { 0, 0 };
	uint64_t word[2];

	for (int i = 0; i < WORDS; i += 2) {
		memcpy(word, page + 8 * i, sizeof(word));
		digest.first += (unsigned __int128)(word[0] + key[i]) * (word[1] + key[i + 1]);
		digest.second += (unsigned __int128)(word[0] + key[i + 2]) * (word[1] + key[i + 3]);
	}
	return digest;
}

static int create(const char *path, int flags)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);

	errno = fd < 0 ? errno : 0;
	if (fd < 0)
		fail("make", path);
	return fd;
}

static void put(int fd, const void *bytes, size_t left, const char *path)
{
	for (const char *at = bytes; left > 0;) {
		ssize_t written = write(fd, at, left);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			fail("write", path);
		at += written;
		left -= (size_t)written;
	}
}

static void note(const char *pages_path, const char *digests_path)
{
	struct mapping pages = map(pages_path);
	size_t count = pages.bytes / PAGE;
	struct head head = { .pages = count };
	struct digest *digests = calloc(count + 1, sizeof(*digests));

	memcpy(head.magic, MAGIC, sizeof(MAGIC));
	if (!digests || pages.bytes % PAGE || getrandom(head.key, sizeof(head.key), 0) != sizeof(head.key))
		fail("note", pages_path);
	for (size_t page = 0; page < count; page++)
		digests[page] = digest_of(pages.at + page * PAGE, head.key);
	int fd = create(digests_path, O_TRUNC);
	put(fd, &head, sizeof(head), digests_path);
	put(fd, digests, count * sizeof(*digests), digests_path);
	close(fd);
	free(digests);
	unmap(pages);
}

struct comparison {
	struct mapping pages, digests;
	const struct head *head;
	int out;
	const char *out_path;
};

static void compare_run(const struct comparison *with, uint64_t page, int64_t other, uint64_t count)
{
	const struct digest *known = (const struct digest *)(const void *)(with->head + 1);
	size_t all = with->pages.bytes / PAGE;

	errno = 0;
	if (count > all || page > all - count || other < -1 ||
	    (other >= 0 && (count > with->head->pages || (uint64_t)other > with->head->pages - count)))
		fail("compare a run beyond the end of", with->out_path);
	for (uint64_t i = 0; i < count; i++) {
		const unsigned char *now = with->pages.at + (page + i) * PAGE;
		bool same = false;
		if (other >= 0) {
			struct digest digest = digest_of(now, with->head->key);
			same = digest.first == known[(uint64_t)other + i].first && digest.second == known[(uint64_t)other + i].second;
		}
		if (!same)
			put(with->out, now, PAGE, with->out_path);
		putchar(same ? '=' : '!');
	}
}

static void compare(const char *pages_path, const char *digests_path, const char *out_path)
{
	struct comparison with = { .pages = map(pages_path), .digests = map(digests_path), .out_path = out_path };
	char line[128];

	with.head = (const struct head *)(const void *)with.digests.at;
	errno = 0;
	if (with.digests.bytes < sizeof(struct head) || memcmp(with.head->magic, MAGIC, sizeof(MAGIC)) ||
	    (with.digests.bytes - sizeof(struct head)) / sizeof(struct digest) != with.head->pages)
		fail("read", digests_path);
	with.out = create(out_path, O_EXCL);
	while (fgets(line, sizeof(line), stdin) && line[0] != '\n') {
		unsigned long long page, count;
		long long other;
		if (sscanf(line, "%llu %lld %llu", &page, &other, &count) != 3)
			fail("expected PAGE OTHER COUNT, got", line);
		compare_run(&with, page, other, count);
	}
	putchar('\n');
	close(with.out);
	unmap(with.pages);
	unmap(with.digests);
}

int main(void)
{
	char line[3 * PATH + 16], pages[PATH], digests[PATH], out[PATH];

	while (fgets(line, sizeof(line), stdin)) {
		errno = 0;
		if (sscanf(line, "note %1023s %1023s", pages, digests) == 2)
			note(pages, digests);
		else if (sscanf(line, "compare %1023s %1023s %1023s", pages, digests, out) == 3)
			compare(pages, digests, out);
		else
			fail("expected note or compare, got", line);
	}
	return fflush(stdout) || ferror(stdin) ? 1 : 0;
}
