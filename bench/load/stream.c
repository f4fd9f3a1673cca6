#define _GNU_SOURCE
#include "stream.h"

#include "payload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

enum { CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_END, CHUNK_LAST };
enum { OP_CONTINUATION, OP_TEXT, OP_BINARY, OP_CLOSE = 8, OP_PING, OP_PONG };
/* Inflating costs more than all the rest, so of messages that must be publications of
 * one channel only every so many-th is looked into. Its counter tells if one was missing. */
enum { INFLATE_EVERY = 16 };
enum { KEEP_LIMIT = 4 << 20, FRAME_LIMIT = 2 << 20, HEAD_LIMIT = 16384 };

bool reader_init(struct reader *r)
{
	r->since_us = UINT64_MAX;
	r->sample_in = 1;
	r->buffer_room = READ_SIZE + KEEP_LIMIT;
	r->buffer = malloc(r->buffer_room);
	r->inflated = malloc(FRAME_LIMIT);
	return r->buffer && r->inflated && inflateInit2(&r->inflater, -MAX_WBITS) == Z_OK;
}

bool subscriber_init(const struct reader *r, struct subscriber *s, uint32_t index)
{
	s->fd = -1;
	s->index = index;
	s->first_channel = dialect_first_channel(&r->dialect, index);
	s->expected = calloc(r->dialect.per_subscriber, sizeof *s->expected);
	return s->expected != NULL;
}

static void remember(struct reader *r, const char *text, size_t length)
{
	if (r->tally.reason[0])
		return;
	size_t room = sizeof r->tally.reason - 1;
	if (length > room)
		length = room;
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)text[i];
		r->tally.reason[i] = c < 32 || c > 126 || c == '"' || c == '\\' ? '\'' : (char)c;
	}
}

static void end(struct reader *r, struct subscriber *s, const char *why)
{
	if (s->phase == PHASE_CLOSED)
		return;
	s->phase = PHASE_CLOSED;
	r->tally.closed++;
	remember(r, why, strlen(why));
}

static void on_publication(struct reader *r, struct subscriber *s, const char *marker)
{
	uint32_t n = digits8(marker + PAYLOAD_COUNTER) - COUNTER_BASE;
	uint32_t channel = digits5(marker + PAYLOAD_CHANNEL) - CHANNEL_BASE;
	uint32_t slot = channel - s->first_channel;
	if (channel < s->first_channel)
		slot += r->dialect.channels;
	r->tally.messages++;
	if (slot >= r->dialect.per_subscriber) {
		r->tally.foreign++;
		return;
	}
	uint32_t expected = s->expected[slot];
	if (n < expected) {
		r->tally.repeated++;
		return;
	}
	r->tally.missing += n - expected;
	s->expected[slot] = n + 1;
	if (--r->sample_in)
		return;
	r->sample_in = r->sample_every;
	uint64_t sent = digits16(marker + PAYLOAD_TIME);
	if (sent >= r->since_us)
		histogram_add(&r->latency, r->now_us > sent ? r->now_us - sent : 0);
}

static void on_other(struct reader *r, struct subscriber *s, const char *text, size_t length)
{
	if (memmem(text, length, "\"backpressure_drop\"", 19) || memmem(text, length, "\"gap\"", 5))
		r->tally.notices++;
	if (memmem(text, length, "\"disconnect", 11))
		remember(r, text, length);
	if (s->ready)
		return;
	enum readiness state = dialect_readiness(&r->dialect, text, length);
	s->ready = state == READY;
	if (state == READY_REFUSED) {
		remember(r, text, length);
		end(r, s, "refused");
	}
}

/* The marker is where it was in the last message, or a digit of seq away. */
static void on_message(struct reader *r, struct subscriber *s, const char *text, size_t length)
{
	size_t marker = strlen(PAYLOAD_MARKER), hint = s->hint;
	if (hint + PAYLOAD_LEAST > length || memcmp(text + hint, PAYLOAD_MARKER, marker)) {
		const char *found = memmem(text, length, PAYLOAD_MARKER, marker);
		if (!found || (size_t)(found - text) + PAYLOAD_LEAST > length) {
			on_other(r, s, text, length);
			return;
		}
		hint = (size_t)(found - text);
		s->hint = (uint32_t)hint;
	}
	on_publication(r, s, text + hint);
}

static void on_lines(struct reader *r, struct subscriber *s, const char *text, size_t length)
{
	const char *stop = text + length;
	while (text < stop) {
		const char *line_end = memchr(text, '\n', (size_t)(stop - text));
		if (!line_end)
			line_end = stop;
		if (line_end > text)
			on_message(r, s, text, (size_t)(line_end - text));
		text = line_end + 1;
	}
}

static void on_control(struct reader *r, struct subscriber *s, unsigned opcode, const char *text,
		       size_t length)
{
	if (opcode == OP_PING && length <= 125) {
		char pong[140];
		size_t size = masked_frame(OP_PONG, text, length, pong);
		(void)!send(s->fd, pong, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	} else if (opcode == OP_CLOSE) {
		char why[64];
		int code = length >= 2 ? (unsigned char)text[0] << 8 | (unsigned char)text[1] : 1005;
		snprintf(why, sizeof why, "closed with %d %.*s", code,
			 length > 2 ? (int)(length - 2 < 40 ? length - 2 : 40) : 0, text + 2);
		end(r, s, why);
	}
}

/* The message of which the frame at TEXT was made goes to r->inflated. Returns its length, or -1. */
static ssize_t inflate_message(struct reader *r, const char *text, size_t length)
{
	static const char tail[] = {0, 0, (char)0xff, (char)0xff};
	z_stream *z = &r->inflater;
	inflateReset(z);
	z->next_out = (Bytef *)r->inflated;
	z->avail_out = FRAME_LIMIT;
	z->next_in = (Bytef *)(uintptr_t)text;
	z->avail_in = (uInt)length;
	if (inflate(z, Z_NO_FLUSH) != Z_OK || z->avail_in)
		return -1;
	z->next_in = (Bytef *)(uintptr_t)tail;
	z->avail_in = sizeof tail;
	if (inflate(z, Z_SYNC_FLUSH) != Z_OK || z->avail_in)
		return -1;
	return FRAME_LIMIT - z->avail_out;
}

static void malformed(struct reader *r, struct subscriber *s)
{
	r->tally.malformed++;
	end(r, s, "malformed frame");
}

static bool is_counted_unseen(const struct reader *r, struct subscriber *s)
{
	bool one_each = r->dialect.server != SERVER_CENTRIFUGE && r->dialect.per_subscriber == 1;
	if (!s->ready || !one_each || ++s->uninflated >= INFLATE_EVERY) {
		s->uninflated = 0;
		return false;
	}
	return true;
}

/* A data frame's payload: one message, or a line each. */
static void on_payload(struct reader *r, struct subscriber *s, bool deflated, const char *text, size_t length)
{
	if (deflated && is_counted_unseen(r, s)) {
		r->tally.messages++;
		r->tally.deflated++;
		s->expected[0]++;
		return;
	}
	if (deflated) {
		ssize_t size = inflate_message(r, text, length);
		if (size < 0) {
			malformed(r, s);
			return;
		}
		r->tally.deflated++;
		text = r->inflated;
		length = (size_t)size;
	}
	if (r->dialect.server == SERVER_CENTRIFUGE)
		on_lines(r, s, text, length);
	else
		on_message(r, s, text, length);
}

/* Counts the complete frames at the start of TEXT; returns how many bytes they took. */
static size_t take_frames(struct reader *r, struct subscriber *s, const char *text, size_t length)
{
	size_t at = 0;
	while (length - at >= 2 && s->phase == PHASE_OPEN) {
		const unsigned char *head = (const unsigned char *)text + at;
		size_t size = head[1], skip = 2;
		if (size == 126) {
			if (length - at < 4)
				break;
			size = (size_t)head[2] << 8 | head[3];
			skip = 4;
		} else if (size == 127) {
			if (length - at < 10)
				break;
			size = 0;
			for (unsigned i = 2; i < 10; i++)
				size = size << 8 | head[i];
			skip = 10;
		}
		/* A mask bit makes the size 128 or more; none of the servers fragments, and
		 * RSV1 may be on data when that was agreed on: anything else is broken framing. */
		unsigned opcode = head[0] & 15u;
		bool deflated = head[0] & 0x40 && s->deflated && opcode < OP_CLOSE;
		if (head[1] & 0x80 || head[0] != (0x80 | (deflated ? 0x40 : 0) | opcode) || !opcode ||
		    size > FRAME_LIMIT) {
			malformed(r, s);
			break;
		}
		if (length - at - skip < size)
			break;
		if (opcode >= OP_CLOSE)
			on_control(r, s, opcode, text + at + skip, size);
		else
			on_payload(r, s, deflated, text + at + skip, size);
		at += skip + size;
	}
	return at;
}

/* Counts the complete events at the start of TEXT; returns how many bytes they took. */
static size_t take_events(struct reader *r, struct subscriber *s, const char *text, size_t length)
{
	size_t at = 0, done = 0;
	const char *data = NULL;
	size_t data_length = 0;
	const char *line_end;
	while (at < length && (line_end = memchr(text + at, '\n', length - at)) != NULL) {
		const char *line = text + at;
		size_t size = (size_t)(line_end - line);
		at += size + 1;
		if (size && line[size - 1] == '\r')
			size--;
		if (!size) {
			if (data)
				on_message(r, s, data, data_length);
			data = NULL;
			done = at;
		} else if (size > 5 && !memcmp(line, "data:", 5)) {
			if (data)
				r->tally.malformed++; /* every server sends one line */
			data = line + 5 + (line[5] == ' ');
			data_length = size - (size_t)(data - line);
		}
	}
	return done;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Takes the framing out of LENGTH bytes of a chunked body at TEXT, in place; returns
 * how many remain. */
static size_t dechunk(struct reader *r, struct subscriber *s, char *text, size_t length)
{
	const char *p = text, *stop = text + length;
	char *out = text;
	while (p < stop) {
		if (s->chunk_state == CHUNK_DATA) {
			size_t n = (size_t)(stop - p) < s->chunk_left ? (size_t)(stop - p) : s->chunk_left;
			memmove(out, p, n);
			out += n;
			p += n;
			s->chunk_left -= n;
			if (!s->chunk_left)
				s->chunk_state = CHUNK_END;
			continue;
		}
		char c = *p++;
		int digit = s->chunk_state == CHUNK_SIZE ? hex_digit(c) : -1;
		if (digit >= 0)
			s->chunk_left = s->chunk_left << 4 | (unsigned)digit;
		else if (s->chunk_state == CHUNK_LAST)
			continue;
		else if (c != '\n')
			s->chunk_state = s->chunk_state == CHUNK_SIZE ? CHUNK_EXTENSION : s->chunk_state;
		else if (s->chunk_state == CHUNK_END)
			s->chunk_state = CHUNK_SIZE;
		else
			s->chunk_state = s->chunk_left ? CHUNK_DATA : CHUNK_LAST;
	}
	if (s->chunk_state == CHUNK_LAST)
		end(r, s, "end of the stream");
	return (size_t)(out - text);
}

static bool keep(struct subscriber *s, const char *text, size_t length)
{
	if (length > KEEP_LIMIT)
		return false;
	if (length > s->kept_room) {
		char *grown = realloc(s->keep, length + 512);
		if (!grown)
			return false;
		s->keep = grown;
		s->kept_room = (uint32_t)length + 512;
	}
	if (length)
		memcpy(s->keep, text, length);
	s->kept = (uint32_t)length;
	return true;
}

static bool head_is_good(const struct reader *r, const char *text, size_t length)
{
	const char *wanted = dialect_is_websocket(&r->dialect) ? "HTTP/1.1 101" : "HTTP/1.1 200";
	return length > 12 && !memcmp(text, wanted, 12);
}

/* Whether the head has a field that begins like this, "\r\n" included. */
static bool head_says(const char *text, size_t length, const char *field)
{
	size_t size = strlen(field);
	for (size_t i = 0; i + size <= length; i++)
		if (text[i] == '\r' && !strncasecmp(text + i, field, size))
			return true;
	return false;
}

static void subscribe(struct reader *r, struct subscriber *s)
{
	char *frames = malloc(dialect_room(&r->dialect));
	size_t size = frames ? dialect_subscribe(&r->dialect, s->index, frames) : 0;
	/* A fresh socket's buffer takes it whole. */
	if (size && send(s->fd, frames, size, MSG_NOSIGNAL) != (ssize_t)size)
		end(r, s, "cannot send the subscribe");
	free(frames);
}

/* The answer's head; returns how many bytes it took, 0 when it is not complete. */
static size_t take_head(struct reader *r, struct subscriber *s, const char *text, size_t length)
{
	const char *found = memmem(text, length, "\r\n\r\n", 4);
	if (!found) {
		if (length > HEAD_LIMIT)
			end(r, s, "endless head");
		return 0;
	}
	size_t size = (size_t)(found + 4 - text);
	if (!head_is_good(r, text, size)) {
		remember(r, text, size < 40 ? size : 40);
		end(r, s, "refused");
		return size;
	}
	s->phase = PHASE_OPEN;
	bool websocket = dialect_is_websocket(&r->dialect);
	s->chunked = !websocket && head_says(text, size, "\r\nTransfer-Encoding: chunked");
	s->deflated = websocket && head_says(text, size, "\r\nSec-WebSocket-Extensions: permessage-deflate");
	s->chunk_state = CHUNK_SIZE;
	s->ready = dialect_ready_at_head(&r->dialect);
	subscribe(r, s);
	return size;
}

/* FRESH bytes of one read, at TEXT behind KEPT bytes of earlier ones. */
static void on_bytes(struct reader *r, struct subscriber *s, char *text, size_t kept, size_t fresh)
{
	if (s->phase == PHASE_HEAD) {
		size_t used = take_head(r, s, text, kept + fresh);
		text += used;
		fresh += kept - used;
		kept = 0;
	}
	size_t length = kept + fresh;
	if (s->phase == PHASE_OPEN) {
		if (s->chunked)
			length = kept + dechunk(r, s, text + kept, fresh);
		size_t used = dialect_is_websocket(&r->dialect) ? take_frames(r, s, text, length)
								: take_events(r, s, text, length);
		text += used;
		length -= used;
	}
	if (!keep(s, text, length))
		end(r, s, "endless message");
}

void subscriber_read(struct reader *r, struct subscriber *s, bool until_end)
{
	while (s->phase == PHASE_HEAD || s->phase == PHASE_OPEN) {
		size_t kept = s->kept;
		ssize_t n = recv(s->fd, r->buffer + kept, READ_SIZE, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			end(r, s, n ? strerror(errno) : "closed without a word");
			return;
		}
		if (kept)
			memcpy(r->buffer, s->keep, kept);
		s->kept = 0;
		r->now_us = clock_us(CLOCK_REALTIME);
		r->tally.bytes += (uint64_t)n;
		r->tally.reads++;
		on_bytes(r, s, r->buffer, kept, (size_t)n);
		/* A short read has emptied the socket; the next edge will tell. */
		if (n < READ_SIZE && !until_end)
			return;
	}
}
