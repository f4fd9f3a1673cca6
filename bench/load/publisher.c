#define _GNU_SOURCE
#include "publisher.h"

#include "payload.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	POSTS_A_SECOND = 250, /* of batches, when nothing else is asked for */
	MOST_LINES = 1000,    /* with MOST_BYTES: below the 1 MB that the hub takes at most */
	MOST_BYTES = 600000,
	MOST_PIPELINED = 32,  /* more could fill both directions and stand still */
	ENVELOPE = 64,        /* around a payload in a line */
	HEAD = 256,
	ANSWER_TIMEOUT_S = 20,
};

struct exchange {
	struct publisher *publisher;
	int fd;
	char *body, *out; /* requests of one round; body is where a batch is built first */
	char *in;         /* answers, unread */
	size_t in_length, in_room;
	uint64_t sent;     /* messages, over all channels */
	bool server_closes; /* after the answer that was read last */
};

static bool fail(struct publisher *p, const char *what)
{
	if (!p->error[0])
		snprintf(p->error, sizeof p->error, "%s: %s", what, errno ? strerror(errno) : "");
	return false;
}

static bool dial(struct exchange *x)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)x->publisher->port)};
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	x->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (x->fd < 0 || connect(x->fd, (struct sockaddr *)&to, sizeof to))
		return fail(x->publisher, "connect");
	int on = 1;
	struct timeval timeout = {.tv_sec = ANSWER_TIMEOUT_S};
	setsockopt(x->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	setsockopt(x->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
	setsockopt(x->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
	return true;
}

/* Servers may bound the requests of a connection (hypercorn does, at 1000). */
static bool redial_if_closed(struct exchange *x)
{
	if (!x->server_closes)
		return true;
	close(x->fd);
	x->server_closes = false;
	x->in_length = 0;
	return dial(x);
}

static bool send_all(struct exchange *x, const char *data, size_t length)
{
	while (length) {
		ssize_t n = send(x->fd, data, length, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(x->publisher, "send");
		data += n;
		length -= (size_t)n;
	}
	return true;
}

static bool receive_more(struct exchange *x)
{
	if (x->in_room - x->in_length < 65536) {
		char *grown = realloc(x->in, x->in_room * 2 + 131072);
		if (!grown)
			return fail(x->publisher, "memory");
		x->in = grown;
		x->in_room = x->in_room * 2 + 131072;
	}
	ssize_t n;
	do
		n = recv(x->fd, x->in + x->in_length, x->in_room - x->in_length, 0);
	while (n < 0 && errno == EINTR);
	if (n <= 0) {
		errno = n ? errno : 0;
		return fail(x->publisher, n ? "no answer" : "closed by the server");
	}
	x->in_length += (size_t)n;
	return true;
}

/* A header field's value inside HEAD, or NULL. NAME is given with "\r\n" and ":". */
static const char *field(const char *head, size_t length, const char *name)
{
	size_t size = strlen(name);
	for (size_t i = 0; i + size <= length; i++)
		if (head[i] == '\r' && !strncasecmp(head + i, name, size))
			return head + i + size + strspn(head + i + size, " ");
	return NULL;
}

/* The length of a chunked body at TEXT, or 0 when it is not all there yet. */
static size_t chunked_length(const char *text, size_t length)
{
	size_t at = 0;
	for (;;) {
		const char *line = memchr(text + at, '\n', length - at);
		if (!line)
			return 0;
		size_t size = strtoul(text + at, NULL, 16);
		at = (size_t)(line + 1 - text) + size + 2;
		if (at > length)
			return 0;
		if (!size)
			return at;
	}
}

static unsigned count_of(const char *text, size_t length, const char *what)
{
	unsigned n = 0;
	size_t size = strlen(what);
	for (const char *p = text, *end = text + length;
	     (p = memmem(p, (size_t)(end - p), what, size)) != NULL; p += size)
		n++;
	return n;
}

/* Reads one answer; adds to *REFUSED what it says was not taken, of MESSAGES sent. */
static bool read_answer(struct exchange *x, unsigned messages, unsigned *refused)
{
	for (;;) {
		char *head_end = x->in_length ? memmem(x->in, x->in_length, "\r\n\r\n", 4) : NULL;
		if (head_end) {
			size_t head = (size_t)(head_end + 4 - x->in), body = 0;
			const char *size = field(x->in, head, "\r\nContent-Length:");
			bool chunked = field(x->in, head, "\r\nTransfer-Encoding: chunked");
			if (size)
				body = strtoul(size, NULL, 10);
			else if (chunked)
				body = chunked_length(x->in + head, x->in_length - head);
			if (head + body <= x->in_length && (body || !chunked)) {
				bool good = x->in_length > 9 && x->in[9] == '2';
				*refused += good ? count_of(x->in + head, body, "\"code\":") : messages;
				if (!good && !x->publisher->error[0])
					snprintf(x->publisher->error, sizeof x->publisher->error,
						 "publish answered %.40s", x->in + 9);
				x->server_closes = field(x->in, head, "\r\nConnection: close");
				x->in_length -= head + body;
				memmove(x->in, x->in + head + body, x->in_length);
				return true;
			}
		}
		if (!receive_more(x))
			return false;
	}
}

/* Numbers in the manner of an order book, so that compression has the usual to do. */
static void fill_pad(char *out, size_t size)
{
	static const char pattern[] = "41505##.##,0.########;";
	static uint64_t state = 88172645463325252u;
	for (size_t i = 0; i < size; i++) {
		out[i] = pattern[i % (sizeof pattern - 1)];
		if (out[i] != '#')
			continue;
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		out[i] = (char)('0' + state % 10);
	}
}

static size_t put_payload(const struct publisher *p, uint32_t n, unsigned channel, uint64_t now, char *out)
{
	size_t pad = p->size - PAYLOAD_LEAST;
	int head = sprintf(out, "{\"n\":%u,\"c\":%u,\"t\":%llu,\"p\":\"", COUNTER_BASE + n,
			   CHANNEL_BASE + channel, (unsigned long long)now);
	fill_pad(out + head, pad);
	memcpy(out + head + pad, "\"}", 2);
	return (size_t)head + pad + 2;
}

static char *put_post(const struct exchange *x, unsigned channel, bool lines, size_t length, char *out)
{
	char path[64];
	dialect_publish_path(&x->publisher->dialect, channel, path, sizeof path);
	out += sprintf(out,
		       "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/%s\r\n"
		       "Content-Length: %zu\r\n\r\n",
		       path, lines ? "x-ndjson" : "json", length);
	return mempcpy(out, x->body, length);
}

/* The next message of the round robin over the channels, as a line or as a payload. */
static size_t put_message(struct exchange *x, uint64_t now, bool enveloped, char *out)
{
	struct publisher *p = x->publisher;
	unsigned channel = (unsigned)(x->sent++ % p->dialect.channels);
	uint32_t n = p->counters[channel]++;
	if (!enveloped)
		return put_payload(p, n, channel, now, out);
	int head = sprintf(out, "{\"channel\":\"bench:%u\",\"data\":", channel);
	size_t length = (size_t)head + put_payload(p, n, channel, now, out + head);
	out[length] = '}';
	return length + 1;
}

/* One POST that carries COUNT messages. */
static bool publish_batch(struct exchange *x, unsigned count, unsigned *refused)
{
	uint64_t now = clock_us(CLOCK_REALTIME);
	size_t length = 0;
	for (unsigned i = 0; i < count; i++) {
		length += put_message(x, now, true, x->body + length);
		if (count > 1)
			x->body[length++] = '\n';
	}
	char *end = put_post(x, 0, count > 1, length, x->out);
	return send_all(x, x->out, (size_t)(end - x->out)) && read_answer(x, count, refused);
}

/* COUNT POSTs of one message each, written together. */
static bool publish_pipelined(struct exchange *x, unsigned count, unsigned *refused)
{
	uint64_t now = clock_us(CLOCK_REALTIME);
	char *end = x->out;
	for (unsigned i = 0; i < count; i++) {
		unsigned channel = (unsigned)(x->sent % x->publisher->dialect.channels);
		size_t length = put_message(x, now, false, x->body);
		end = put_post(x, channel, false, length, end);
	}
	if (!send_all(x, x->out, (size_t)(end - x->out)))
		return false;
	for (unsigned i = 0; i < count; i++)
		if (!read_answer(x, 1, refused))
			return false;
	return true;
}

static unsigned most_of_round(const struct publisher *p)
{
	unsigned most = MOST_BYTES / (p->size + ENVELOPE);
	unsigned limit = dialect_publishes_lines(&p->dialect) ? MOST_LINES : MOST_PIPELINED;
	if (p->batch && p->batch < limit)
		limit = p->batch;
	return most < limit ? (most ? most : 1) : limit;
}

static void sleep_until_us(uint64_t when)
{
	struct timespec at = {.tv_sec = (time_t)(when / 1000000), .tv_nsec = (long)(when % 1000000) * 1000};
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static void publish_until_stopped(struct exchange *x)
{
	struct publisher *p = x->publisher;
	unsigned most = most_of_round(p);
	double usual = p->batch ? p->batch : p->rate / POSTS_A_SECOND;
	double interval = 1e6 * (usual < 1 ? 1 : usual) / p->rate; /* microseconds */
	uint64_t start = clock_us(CLOCK_MONOTONIC), last = (uint64_t)COUNTER_LIMIT * p->dialect.channels;
	double next = 0;
	while (!atomic_load(&p->stop) && x->sent < last) {
		double passed = (double)(clock_us(CLOCK_MONOTONIC) - start);
		double due = passed * p->rate / 1e6 + 1 - (double)x->sent;
		if (due < 1 || passed < next) {
			if (next <= passed)
				next = passed + interval;
			/* Short sleeps only, so that a slow rate does not delay the end. */
			double wake = next < passed + 50000 ? next : passed + 50000;
			sleep_until_us(start + (uint64_t)wake);
			continue;
		}
		unsigned count = due > most ? most : (unsigned)due, refused = 0;
		bool good = dialect_publishes_lines(&p->dialect) ? publish_batch(x, count, &refused)
								 : publish_pipelined(x, count, &refused);
		if (!good || !redial_if_closed(x))
			return;
		atomic_fetch_add(&p->published, count - refused);
		atomic_fetch_add(&p->posts, dialect_publishes_lines(&p->dialect) ? 1 : count);
		p->refused += refused;
		next += interval;
	}
}

static void *run(void *argument)
{
	struct publisher *p = argument;
	size_t room = (size_t)MOST_LINES * (p->size + ENVELOPE + HEAD);
	struct exchange x = {.publisher = p, .fd = -1, .body = malloc(room), .out = malloc(room)};
	prctl(PR_SET_TIMERSLACK, 1000);
	if (!x.body || !x.out)
		fail(p, "memory");
	else if (dial(&x))
		publish_until_stopped(&x);
	if (x.fd >= 0)
		close(x.fd);
	free(x.body);
	free(x.out);
	free(x.in);
	return NULL;
}

bool publisher_start(struct publisher *p)
{
	p->counters = calloc(p->dialect.channels, sizeof *p->counters);
	return p->counters && !pthread_create(&p->thread, NULL, run, p);
}

void publisher_stop(struct publisher *p)
{
	atomic_store(&p->stop, true);
}

void publisher_join(struct publisher *p)
{
	publisher_stop(p);
	pthread_join(p->thread, NULL);
}
