/* Sends IP packets as Ethernet frames out of one network device. */
#ifndef FRAMES_H
#define FRAMES_H

#include "packet.h"

/* Opens the device; -1 with errno set when there is none. */
int frames_open(const char *device);

enum frame_result { FRAME_SENT, FRAME_LATER, FRAME_TOO_BIG, FRAME_FAILED };
enum frame_result frames_send(int fd, const struct packet *packet, const uint8_t *destination_mac);

#endif
