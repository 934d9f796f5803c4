#include "packet.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct packet *packet_new(uint32_t id, uint16_t ether_type, const uint8_t *mac, const uint8_t *data, size_t length)
{
	struct packet *packet = calloc(1, sizeof(*packet) + length);
	if (!packet)
		return NULL;
	packet->id = id;
	packet->ether_type = ether_type;
	if (mac)
		memcpy(packet->source_mac, mac, MAC_BYTES);
	packet->arrived_ms = now_ms();
	packet->length = length;
	memcpy(packet->data, data, length);
	syn_parse(&packet->syn, data, length);
	return packet;
}

void fifo_push(struct fifo *fifo, struct packet *packet)
{
	packet->next = NULL;
	if (fifo->tail)
		fifo->tail->next = packet;
	else
		fifo->head = packet;
	fifo->tail = packet;
	fifo->count++;
	fifo->bytes += packet->length;
}

struct packet *fifo_pop(struct fifo *fifo)
{
	struct packet *packet = fifo->head;
	if (!packet)
		return NULL;
	fifo->head = packet->next;
	if (!fifo->head)
		fifo->tail = NULL;
	fifo->count--;
	fifo->bytes -= packet->length;
	return packet;
}

void fifo_clear(struct fifo *fifo)
{
	struct packet *packet;
	while ((packet = fifo_pop(fifo)))
		free(packet);
}

void fifo_merge(struct fifo *into, struct fifo *from)
{
	struct fifo merged = {0};
	while (into->head || from->head) {
		/* Ids wrap round: compare by difference. */
		bool take_from = !into->head || (from->head && (int32_t)(from->head->id - into->head->id) < 0);
		fifo_push(&merged, fifo_pop(take_from ? from : into));
	}
	*into = merged;
}

void syn_parse(struct syn_key *key, const uint8_t *data, size_t length)
{
	memset(key, 0, sizeof(*key));
	const uint8_t *tcp;
	uint8_t family = length ? data[0] >> 4 : 0;
	if (family == 4 && length >= 20) {
		bool fragment = (data[6] & 0x1f) || data[7];
		if (data[9] != 6 || fragment)
			return;
		tcp = data + (size_t)(data[0] & 0x0f) * 4;
		memcpy(key->source, data + 12, 4);
		memcpy(key->destination, data + 16, 4);
	} else if (family == 6 && length >= 40) {
		if (data[6] != 6) /* no extension headers: a SYN carries none in practice */
			return;
		tcp = data + 40;
		memcpy(key->source, data + 8, 16);
		memcpy(key->destination, data + 24, 16);
	} else {
		return;
	}
	if (tcp + 20 > data + length || (tcp[13] & 0x12) != 0x02)
		return;
	key->source_port = (uint16_t)(tcp[0] << 8 | tcp[1]);
	key->port = (uint16_t)(tcp[2] << 8 | tcp[3]);
	memcpy(&key->sequence, tcp + 4, sizeof(key->sequence));
	key->family = family;
}

bool syn_equal(const struct syn_key *a, const struct syn_key *b)
{
	return a->family == b->family && a->source_port == b->source_port && a->port == b->port &&
	       a->sequence == b->sequence && !memcmp(a->source, b->source, sizeof(a->source)) &&
	       !memcmp(a->destination, b->destination, sizeof(a->destination));
}

/* Chained buckets, so that a flood of SYNs does not make each one search all others. */
struct syn_node {
	struct syn_node *next;
	struct syn_key key;
};
static struct syn_node *buckets[4096];

static struct syn_node **bucket_of(const struct syn_key *key)
{
	uint32_t hash = key->sequence * 2654435761u ^ (uint32_t)key->source_port << 16 ^ key->port;
	return &buckets[(hash ^ hash >> 16) % (sizeof(buckets) / sizeof(buckets[0]))];
}

bool syn_set_add(const struct syn_key *key)
{
	if (!key->family)
		return true;
	struct syn_node **bucket = bucket_of(key);
	for (struct syn_node *node = *bucket; node; node = node->next)
		if (syn_equal(&node->key, key))
			return false;
	struct syn_node *node = malloc(sizeof(*node));
	if (!node)
		return true; /* held twice is better than not at all */
	node->key = *key;
	node->next = *bucket;
	*bucket = node;
	return true;
}

void syn_set_remove(const struct syn_key *key)
{
	if (!key->family)
		return;
	for (struct syn_node **at = bucket_of(key); *at; at = &(*at)->next) {
		if (!syn_equal(&(*at)->key, key))
			continue;
		struct syn_node *found = *at;
		*at = found->next;
		free(found);
		return;
	}
}

void syn_set_clear(void)
{
	for (size_t i = 0; i < sizeof(buckets) / sizeof(buckets[0]); i++) {
		while (buckets[i]) {
			struct syn_node *node = buckets[i];
			buckets[i] = node->next;
			free(node);
		}
	}
}

int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
