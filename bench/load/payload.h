/* The payload that every server is asked to carry, of fixed layout so that a
 * receiver finds counter, channel and time at known offsets from one marker:
 *
 *     {"n":10000000,"c":10000,"t":1740000000000000,"p":"xxxx..."}
 *
 * n: counter of the channel, from COUNTER_BASE up, without holes
 * c: number of the channel, plus CHANNEL_BASE
 * t: CLOCK_REALTIME of the publisher, microseconds
 *
 * The bases keep the number of digits constant without leading zeros, which JSON
 * forbids. A server may wrap the payload, but not rewrite it: one that did would
 * show up as messages that were never counted. */
#ifndef BENCH_PAYLOAD_H
#define BENCH_PAYLOAD_H

#include <stdint.h>
#include <string.h>
#include <time.h>

enum {
	PAYLOAD_COUNTER = 5,  /* offset of n's digits, 8 of them */
	PAYLOAD_CHANNEL = 18, /* 5 digits */
	PAYLOAD_TIME = 28,    /* 16 digits */
	PAYLOAD_PAD = 50,
	PAYLOAD_LEAST = 52, /* with an empty pad and the closing "} */
	COUNTER_BASE = 10000000,
	COUNTER_LIMIT = 89999999,
	CHANNEL_BASE = 10000,
	CHANNEL_LIMIT = 89999,
};

#define PAYLOAD_MARKER "{\"n\":"

static inline uint64_t clock_us(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Eight ASCII digits at once: neighbours are joined in pairs, then fours. */
static inline uint32_t digits8(const char *text)
{
	uint64_t word;
	memcpy(&word, text, 8);
	word -= 0x3030303030303030u;
	word = word * 10 + (word >> 8);
	return (uint32_t)(((word & 0x000000FF000000FFu) * 0x000F424000000064u +
			   ((word >> 16) & 0x000000FF000000FFu) * 0x0000271000000001u) >> 32);
}

static inline uint32_t digits5(const char *text)
{
	uint32_t value = 0;
	for (int i = 0; i < 5; i++)
		value = value * 10 + (uint32_t)(text[i] - '0');
	return value;
}

static inline uint64_t digits16(const char *text)
{
	return (uint64_t)digits8(text) * 100000000 + digits8(text + 8);
}

#endif
