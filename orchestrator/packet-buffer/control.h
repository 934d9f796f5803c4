/* The Unix socket by which the orchestrator commands the buffer: a line in, a line of JSON out, per command. */
#ifndef CONTROL_H
#define CONTROL_H

#include <poll.h>

#define CONTROL_CLIENTS 8
#define CONTROL_FDS (CONTROL_CLIENTS + 1)

/* Handles one command; answers now or later by control_reply(client, …). */
typedef void (*control_handler)(int client, char *line);

/* Listens on `path`; -1 after saying why on stderr (somebody listens there already, for one). */
int control_open(const char *path, control_handler handler);
/* Fills CONTROL_FDS entries for poll, and handles what poll found. */
void control_prepare(struct pollfd *fds);
void control_handle(const struct pollfd *fds);
/* `client` may have gone meanwhile: then nothing happens. */
void control_reply(int client, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* From now on `client` hears what is told; a client that does not read is dropped. */
void control_watch(int client);
void control_tell(const char *format, ...) __attribute__((format(printf, 1, 2)));
void control_close(void);

#endif
