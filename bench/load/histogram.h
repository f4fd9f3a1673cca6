/* Latencies in buckets of equal ratio: 64 to the octave, so a quantile is at most
 * 1.6 % too high. Values are microseconds; below 64 they are exact. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_STEP_BITS = 6, HISTOGRAM_BUCKETS = 64 << HISTOGRAM_STEP_BITS };

struct histogram {
	uint64_t count, largest;
	uint64_t bucket[HISTOGRAM_BUCKETS];
};

static inline void histogram_add(struct histogram *h, uint64_t value)
{
	unsigned octave = value >> HISTOGRAM_STEP_BITS
				  ? 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_STEP_BITS
				  : 0;
	h->bucket[((uint64_t)octave << HISTOGRAM_STEP_BITS) + (value >> octave)]++;
	h->count++;
	if (value > h->largest)
		h->largest = value;
}

/* The upper edge of the bucket that holds the share (0..1) of the values. */
static inline uint64_t histogram_quantile(const struct histogram *h, double share)
{
	uint64_t wanted = (uint64_t)((double)h->count * share), seen = 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen <= wanted || !h->bucket[i])
			continue;
		unsigned octave = i >> (HISTOGRAM_STEP_BITS + 1) ? (i >> HISTOGRAM_STEP_BITS) - 1 : 0;
		uint64_t mantissa = i - ((uint64_t)octave << HISTOGRAM_STEP_BITS);
		uint64_t edge = ((mantissa + 1) << octave) - 1;
		return edge < h->largest ? edge : h->largest;
	}
	return h->largest;
}

#endif
