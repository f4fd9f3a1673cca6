/* What each server wants to hear: how one subscribes to it and how one publishes.
 * Everything a server's protocol asks for is here and nowhere else. */
#ifndef BENCH_DIALECT_H
#define BENCH_DIALECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum server { SERVER_HUB, SERVER_NCHAN, SERVER_CENTRIFUGE, SERVER_CLOOP, SERVERS };
enum transport { TRANSPORT_WS, TRANSPORT_WS_LIVE, TRANSPORT_SSE, TRANSPORT_SSE_LIVE, TRANSPORTS };

extern const char *const server_names[SERVERS];
extern const char *const transport_names[TRANSPORTS];

struct dialect {
	enum server server;
	enum transport transport;
	unsigned channels;    /* in all */
	unsigned per_subscriber; /* of these, for each subscriber */
	bool deflate; /* offers permessage-deflate, each message by itself */
};

enum readiness { READY_NOT_YET, READY, READY_REFUSED };

/* Room that the two builders below need at most. */
size_t dialect_room(const struct dialect *d);

/* Subscriber i takes per_subscriber channels in a row from here, modulo channels. */
static inline unsigned dialect_first_channel(const struct dialect *d, unsigned subscriber)
{
	return (unsigned)((uint64_t)subscriber * d->per_subscriber % d->channels);
}

bool dialect_is_websocket(const struct dialect *d);

/* The request head that opens a subscriber's connection. Returns its length. */
size_t dialect_request(const struct dialect *d, unsigned subscriber, char *out);

/* The masked frames that subscribe, to be sent after the 101; 0 when the request
 * itself said it all. */
size_t dialect_subscribe(const struct dialect *d, unsigned subscriber, char *out);

/* Whether the answer to the request alone makes the subscriber complete. */
bool dialect_ready_at_head(const struct dialect *d);

/* What a message that is no publication says about the subscription. */
enum readiness dialect_readiness(const struct dialect *d, const char *text, size_t length);

/* Whether several messages travel in one POST, one to a line. */
bool dialect_publishes_lines(const struct dialect *d);

/* The path and query to POST one message of a channel to (or a batch, of any). */
int dialect_publish_path(const struct dialect *d, unsigned channel, char *out, size_t room);

/* One text or control frame as a client sends it. Returns its length; OUT needs
 * length + 14 bytes. */
size_t masked_frame(unsigned opcode, const char *text, size_t length, char *out);

#endif
