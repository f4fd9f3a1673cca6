/* One subscriber's incoming bytes: HTTP answer head, then WebSocket frames or
 * Server-Sent Events; what is in them is counted here.
 *
 * Theory of operation. All subscribers read into one large buffer, so that it stays
 * in the cache; complete messages are counted where they lie. What is left over (a
 * message cut in two) is kept with the subscriber and put in front of its next read.
 * A chunked body is made contiguous in place, and kept decoded. */
#ifndef BENCH_STREAM_H
#define BENCH_STREAM_H

#include "dialect.h"
#include "histogram.h"

#include <stdbool.h>
#include <stdint.h>
#include <zlib.h>

enum phase { PHASE_CONNECTING, PHASE_HEAD, PHASE_OPEN, PHASE_CLOSED };

struct subscriber {
	int fd;
	uint32_t index;
	uint32_t first_channel;
	uint32_t hint; /* where the last message had its marker */
	uint8_t phase;
	bool ready, stuck;
	bool chunked;
	bool deflated; /* permessage-deflate was agreed on */
	uint8_t uninflated; /* messages since the last one that was looked into */
	uint8_t chunk_state;
	uint64_t chunk_left;
	uint32_t kept, kept_room;
	char *keep;
	uint32_t *expected; /* the next counter, one a channel */
};

struct tally {
	uint64_t messages;   /* publications, of subscribers that read */
	uint64_t bytes;
	uint64_t deflated; /* messages that came compressed */
	uint64_t missing;    /* counters that were jumped over */
	uint64_t repeated;   /* counters that came again or too late */
	uint64_t foreign;    /* channels that were not subscribed to */
	uint64_t malformed;  /* frames or events that break the protocol */
	uint64_t notices;    /* what the server told about drops */
	uint64_t reads;
	uint64_t closed;     /* connections the server ended */
	char reason[160];    /* of the first of these, or of a refusal */
};

struct reader {
	struct dialect dialect;
	struct tally tally;
	struct histogram latency; /* microseconds */
	uint64_t since_us;        /* only what was published from then on enters it */
	unsigned sample_every, sample_in;
	uint64_t now_us;          /* CLOCK_REALTIME of the current read */
	char *buffer;
	size_t buffer_room;
	z_stream inflater; /* one for all: no message refers to another */
	char *inflated;
};

enum { READ_SIZE = 128 * 1024 };

bool reader_init(struct reader *r);
bool subscriber_init(const struct reader *r, struct subscriber *s, uint32_t index);

/* Reads until the socket is empty, or to the end of the stream when UNTIL_END is set.
 * Afterwards phase and ready say how far the subscriber is. */
void subscriber_read(struct reader *r, struct subscriber *s, bool until_end);

#endif
