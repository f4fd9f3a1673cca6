#define _GNU_SOURCE
#include "dialect.h"

#include <stdio.h>
#include <string.h>

const char *const server_names[SERVERS] = {"hub", "nchan", "centrifuge", "cloop"};
const char *const transport_names[TRANSPORTS] = {"ws", "ws-live", "sse", "sse-live"};

enum {
	NAME_ROOM = 64,       /* of one channel, with the command around it */
	HEAD_ROOM = 1024,
	CHANNELS_A_FRAME = 150, /* the hub takes 200 names and 4 KB in one subscribe */
};

size_t dialect_room(const struct dialect *d)
{
	return HEAD_ROOM + (size_t)d->per_subscriber * NAME_ROOM * 3;
}

bool dialect_is_websocket(const struct dialect *d)
{
	return d->transport == TRANSPORT_WS || d->transport == TRANSPORT_WS_LIVE;
}

static unsigned channel_at(const struct dialect *d, unsigned subscriber, unsigned i)
{
	return (dialect_first_channel(d, subscriber) + i) % d->channels;
}

/* Channels from..to of a subscriber, each between QUOTE marks, divided by commas. */
static char *put_channels(const struct dialect *d, unsigned subscriber, unsigned from, unsigned to,
			  const char *quote, char *out)
{
	for (unsigned i = from; i < to; i++)
		out += sprintf(out, "%s%sbench:%u%s", i > from ? "," : "", quote,
			       channel_at(d, subscriber, i), quote);
	return out;
}

static char *put_path(const struct dialect *d, unsigned subscriber, char *out)
{
	bool websocket = dialect_is_websocket(d);
	if (d->server == SERVER_HUB && websocket)
		return stpcpy(out, d->transport == TRANSPORT_WS ? "/v2" : "/live");
	if (d->server == SERVER_CENTRIFUGE && websocket)
		return stpcpy(out, "/ws");
	if (d->server == SERVER_CENTRIFUGE) {
		out = stpcpy(out, "/sse?cf_connect=%7B%22id%22:1,%22connect%22:%7B%22data%22:%5B");
		out = put_channels(d, subscriber, 0, d->per_subscriber, "%22", out);
		return stpcpy(out, "%5D%7D%7D");
	}
	out = stpcpy(out, websocket ? "/ws?channels=" : "/sse?channels=");
	out = put_channels(d, subscriber, 0, d->per_subscriber, "", out);
	if (d->server == SERVER_HUB)
		out = stpcpy(out, d->transport == TRANSPORT_SSE ? "&format=v2" : "&format=live");
	return out;
}

size_t dialect_request(const struct dialect *d, unsigned subscriber, char *out)
{
	char *end = stpcpy(out, "GET ");
	end = put_path(d, subscriber, end);
	end = stpcpy(end, " HTTP/1.1\r\nHost: 127.0.0.1\r\n");
	if (dialect_is_websocket(d))
		/* The key of RFC 6455 section 1.3, the same for all: only proxies need a
		 * fresh one, and the C loop can then answer without SHA-1. */
		end = stpcpy(end, "Upgrade: websocket\r\nConnection: Upgrade\r\n"
				  "Sec-WebSocket-Version: 13\r\n"
				  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
	else
		end = stpcpy(end, "Accept: text/event-stream\r\n");
	if (d->deflate)
		end = stpcpy(end, "Sec-WebSocket-Extensions: permessage-deflate; "
				  "server_no_context_takeover; client_no_context_takeover\r\n");
	end = stpcpy(end, "\r\n");
	return (size_t)(end - out);
}

size_t masked_frame(unsigned opcode, const char *text, size_t length, char *out)
{
	static const unsigned char mask[4] = {0x5a, 0xc3, 0x17, 0x99};
	unsigned char *p = (unsigned char *)out;
	*p++ = (unsigned char)(0x80 | opcode);
	if (length < 126) {
		*p++ = (unsigned char)(0x80 | length);
	} else {
		*p++ = 0x80 | 126; /* a subscribe stays below 64 KB: see CHANNELS_A_FRAME */
		*p++ = (unsigned char)(length >> 8);
		*p++ = (unsigned char)length;
	}
	memcpy(p, mask, 4);
	p += 4;
	for (size_t i = 0; i < length; i++)
		*p++ = (unsigned char)text[i] ^ mask[i & 3];
	return (size_t)((char *)p - out);
}

static size_t hub_subscribe(const struct dialect *d, unsigned subscriber, char *out)
{
	char text[CHANNELS_A_FRAME * NAME_ROOM];
	size_t length = 0;
	for (unsigned from = 0; from < d->per_subscriber; from += CHANNELS_A_FRAME) {
		unsigned to = from + CHANNELS_A_FRAME;
		if (to > d->per_subscriber)
			to = d->per_subscriber;
		bool live = d->transport == TRANSPORT_WS_LIVE;
		char *end = stpcpy(text, live ? "{\"type\":\"subscribe\",\"channels\":["
					      : "{\"method\":\"subscribe\",\"params\":[");
		end = put_channels(d, subscriber, from, to, "\"", end);
		end += live ? sprintf(end, "]}") : sprintf(end, "],\"id\":%u}", from + 1);
		length += masked_frame(1, text, (size_t)(end - text), out + length);
	}
	return length;
}

/* Commands may share a frame, but a frame has a limit (64 KB by default). */
static size_t centrifuge_subscribe(const struct dialect *d, unsigned subscriber, char *out)
{
	char text[CHANNELS_A_FRAME * NAME_ROOM * 2];
	size_t length = 0;
	for (unsigned from = 0; from < d->per_subscriber; from += CHANNELS_A_FRAME) {
		char *end = text;
		if (!from)
			end = stpcpy(end, "{\"id\":1,\"connect\":{}}");
		for (unsigned i = from; i < d->per_subscriber && i < from + CHANNELS_A_FRAME; i++)
			end += sprintf(end, "%s{\"id\":%u,\"subscribe\":{\"channel\":\"bench:%u\"}}",
				       end > text ? "\n" : "", i + 2, channel_at(d, subscriber, i));
		length += masked_frame(1, text, (size_t)(end - text), out + length);
	}
	return length;
}

size_t dialect_subscribe(const struct dialect *d, unsigned subscriber, char *out)
{
	if (!dialect_is_websocket(d))
		return 0;
	if (d->server == SERVER_HUB)
		return hub_subscribe(d, subscriber, out);
	return d->server == SERVER_CENTRIFUGE ? centrifuge_subscribe(d, subscriber, out) : 0;
}

bool dialect_ready_at_head(const struct dialect *d)
{
	return d->server == SERVER_NCHAN || d->server == SERVER_CLOOP;
}

static bool says(const char *text, size_t length, const char *what)
{
	return memmem(text, length, what, strlen(what)) != NULL;
}

static enum readiness hub_readiness(const struct dialect *d, const char *text, size_t length)
{
	if (says(text, length, "\"errors\":[{"))
		return READY_REFUSED;
	if (d->transport == TRANSPORT_SSE)
		return says(text, length, "\"connected\"") ? READY : READY_NOT_YET;
	if (d->transport == TRANSPORT_WS && d->per_subscriber > CHANNELS_A_FRAME) {
		unsigned last = (d->per_subscriber - 1) / CHANNELS_A_FRAME * CHANNELS_A_FRAME + 1;
		char id[24];
		sprintf(id, "\"id\":%u,", last);
		return says(text, length, id) ? READY : READY_NOT_YET;
	}
	if (says(text, length, "\"subscribed\""))
		return READY;
	return says(text, length, "\"code\":") || says(text, length, "\"error\"") ? READY_REFUSED
										   : READY_NOT_YET;
}

enum readiness dialect_readiness(const struct dialect *d, const char *text, size_t length)
{
	if (d->server == SERVER_HUB)
		return hub_readiness(d, text, length);
	if (d->server != SERVER_CENTRIFUGE)
		return READY_NOT_YET;
	if (says(text, length, "\"error\":"))
		return READY_REFUSED;
	if (!dialect_is_websocket(d))
		return says(text, length, "\"connect\"") ? READY : READY_NOT_YET;
	char last[40];
	sprintf(last, "{\"id\":%u,", d->per_subscriber + 1);
	return says(text, length, last) ? READY : READY_NOT_YET;
}

bool dialect_publishes_lines(const struct dialect *d)
{
	return d->server != SERVER_NCHAN;
}

int dialect_publish_path(const struct dialect *d, unsigned channel, char *out, size_t room)
{
	if (d->server == SERVER_NCHAN)
		return snprintf(out, room, "/publish?channel=bench:%u", channel);
	return snprintf(out, room, "/publish");
}
