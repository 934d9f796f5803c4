/* Sending what is held out of a device, instead of letting it go on to the VM. */
#ifndef DIVERT_H
#define DIVERT_H

#include "buffer.h"

/* Begins with what is held; answers `client` when all is sent, or at once when the arguments are wrong. */
void divert_start(int client, char *arguments);
/* Sends the next few packets; to be called after each poll in mode DIVERT. When all are sent and the time for
   stragglers is over, the mode is HOLD again. */
void divert_continue(void);
/* After a divert whose stragglers are no longer waited for; not while divert_is_sending(). The caller sets the mode. */
void divert_close(void);
/* A packet that has arrived in mode DIVERT: to be sent, unless it is a SYN that stays held. */
bool divert_keeps(const struct packet *packet);
void divert_take(struct packet *packet);

bool divert_is_sending(void);
int divert_poll_timeout(void); /* ms */
const struct fifo *divert_outgoing(void);

#endif
