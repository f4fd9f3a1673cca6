/* A thread that publishes from outside, over one HTTP connection, at a given rate.
 *
 * Open loop: what is due follows from the clock alone, so a server that answers late
 * gets the arrears in its next batch and shows it in the achieved rate. One batch is
 * under way at a time; a message's time stamp is taken when its batch is written. */
#ifndef BENCH_PUBLISHER_H
#define BENCH_PUBLISHER_H

#include "dialect.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct publisher {
	struct dialect dialect;
	int port;
	double rate;    /* messages/s over all channels */
	unsigned batch; /* messages of one POST; 0: by rate, so that about 250 POSTs/s suffice */
	unsigned size;  /* bytes of a payload */

	pthread_t thread;
	atomic_bool stop;
	_Atomic uint64_t published; /* accepted by the server */
	_Atomic uint64_t posts;
	uint64_t refused;
	uint32_t *counters; /* sent so far, one a channel; read them after the join */
	char error[160];    /* empty when all went well */
};

/* False when the thread or its buffers could not be made. */
bool publisher_start(struct publisher *p);
/* Asks it to end after the batch that is under way; waits for that end. */
void publisher_stop(struct publisher *p);
void publisher_join(struct publisher *p);

#endif
