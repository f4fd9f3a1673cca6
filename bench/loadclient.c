/* Load client: opens N subscribers to one server, publishes to it from outside, and
 * measures what arrives: deliveries/s, latency, completeness.
 *
 * One thread reads all the subscribers (load/stream.c), another publishes
 * (load/publisher.c). Phases: connect all, settle, warm up, measure, drain, report.
 * Each phase is told as a line of JSON on stdout, so that whoever started this can look
 * at the server at the same moments; the last line carries the figures. It ends by
 * itself: every phase is bounded, and an alarm stands behind them all.
 *
 * Options are NAME=VALUE; see defaults below. Exit status: 0 measured, 1 could not,
 * 2 bad usage. */
#define _GNU_SOURCE
#include "load/dialect.h"
#include "load/payload.h"
#include "load/publisher.h"
#include "load/stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	EVENTS = 512,
	PER_SOURCE = 20000, /* connections from one 127.0.0.x: below the ephemeral ports */
	SLICE_US = 20000,   /* longest sleep, so that phases end on time */
	SETTLE_US = 300000, /* between the last subscription and the first message */
	QUIET_US = 400000,  /* silence that ends the drain */
};

struct options {
	const char *server, *transport;
	double port, publish_port;
	double subscribers, channels, per_subscriber;
	double rate, batch, size;
	double warmup, seconds, drain;
	double stuck; /* share of the subscribers that stop reading when the warm-up begins */
	double connect_rate, connecting, connect_timeout; /* rate 0: no limit; connecting: at once */
	double sample; /* every k-th message gives a latency */
	double deflate; /* 1: offer permessage-deflate */
};

static struct options options = {
	.server = "hub", .transport = "ws", .subscribers = 100, .channels = 1, .per_subscriber = 1,
	.rate = 100, .size = 215, .warmup = 1, .seconds = 3, .drain = 5, .connecting = 64,
	.connect_timeout = 30, .sample = 5,
};

static struct reader reader;
static struct publisher publisher;
static struct subscriber *subscribers;
static unsigned opened, ready, failed; /* failed: ended before they were ready */
static int poller;

static void die(int status, const char *what)
{
	fprintf(stderr, "loadclient: %s\n", what);
	exit(status);
}

static void too_long(int signal)
{
	static const char text[] = "loadclient: took longer than all its phases together\n";
	(void)signal;
	(void)!write(2, text, sizeof text - 1);
	_exit(1);
}

static unsigned name_index(const char *const *names, unsigned count, const char *name)
{
	for (unsigned i = 0; i < count; i++)
		if (!strcmp(names[i], name))
			return i;
	die(2, "unknown server or transport");
	return 0;
}

static void parse_option(char *argument)
{
	static const struct {
		const char *name;
		double *number;
		const char **text;
	} known[] = {
		{"server", NULL, &options.server}, {"transport", NULL, &options.transport},
		{"port", &options.port, NULL}, {"publish-port", &options.publish_port, NULL},
		{"subscribers", &options.subscribers, NULL}, {"channels", &options.channels, NULL},
		{"per-subscriber", &options.per_subscriber, NULL}, {"rate", &options.rate, NULL},
		{"batch", &options.batch, NULL}, {"size", &options.size, NULL},
		{"warmup", &options.warmup, NULL}, {"seconds", &options.seconds, NULL},
		{"drain", &options.drain, NULL}, {"stuck", &options.stuck, NULL},
		{"connect-rate", &options.connect_rate, NULL}, {"connecting", &options.connecting, NULL},
		{"connect-timeout", &options.connect_timeout, NULL}, {"sample", &options.sample, NULL},
		{"deflate", &options.deflate, NULL},
	};
	char *value = strchr(argument, '=');
	if (!value)
		die(2, "options are NAME=VALUE");
	*value++ = 0;
	for (unsigned i = 0; i < sizeof known / sizeof *known; i++) {
		if (strcmp(known[i].name, argument))
			continue;
		char *rest = value;
		if (known[i].text)
			*known[i].text = value;
		else
			*known[i].number = strtod(value, &rest);
		if (!known[i].text && (rest == value || *rest || !(*known[i].number >= 0)))
			die(2, "not a number that is 0 or more");
		return;
	}
	fprintf(stderr, "loadclient: %s?\n", argument);
	die(2, "unknown option");
}

static void check_options(void)
{
	struct options *o = &options;
	if (o->port < 1 || o->port > 65535 || o->subscribers < 1 || o->channels < 1 ||
	    o->channels > CHANNEL_LIMIT || o->per_subscriber < 1 || o->per_subscriber > o->channels ||
	    o->stuck > 1 || o->size < PAYLOAD_LEAST || o->size > 100000 || o->sample < 1 || o->connecting < 1)
		die(2, "an option is out of range");
	if (!o->publish_port)
		o->publish_port = o->port;
}

static void raise_descriptor_limit(void)
{
	struct rlimit limit;
	rlim_t wanted = (rlim_t)options.subscribers + 64;
	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	if (limit.rlim_cur < wanted)
		limit.rlim_cur = wanted;
	if (limit.rlim_max < limit.rlim_cur)
		limit.rlim_max = limit.rlim_cur; /* root may */
	setrlimit(RLIMIT_NOFILE, &limit);
}

static uint64_t now_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

static bool is_stuck_one(unsigned i)
{
	return floor((i + 1) * options.stuck) > floor(i * options.stuck);
}

/* Connecting */

static bool open_socket(struct subscriber *s)
{
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		return false;
	int on = 1;
	struct sockaddr_in address = {.sin_family = AF_INET};
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + s->index / PER_SOURCE);
	setsockopt(s->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
	if (bind(s->fd, (struct sockaddr *)&address, sizeof address))
		return false;
	address.sin_port = htons((uint16_t)options.port);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(s->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
		return false;
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = s};
	return !epoll_ctl(poller, EPOLL_CTL_ADD, s->fd, &event);
}

static void give_up(struct subscriber *s, int error)
{
	if (!reader.tally.reason[0])
		snprintf(reader.tally.reason, sizeof reader.tally.reason, "connect: %s", strerror(error));
	s->phase = PHASE_CLOSED;
	failed++;
}

static void send_request(struct subscriber *s)
{
	int error = 0;
	socklen_t size = sizeof error;
	getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size);
	char *head = malloc(dialect_room(&reader.dialect));
	if (!error && head) {
		size_t length = dialect_request(&reader.dialect, s->index, head);
		if (send(s->fd, head, length, MSG_NOSIGNAL) != (ssize_t)length)
			error = errno;
	}
	free(head);
	if (error) {
		give_up(s, error);
		return;
	}
	s->phase = PHASE_HEAD;
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = s};
	epoll_ctl(poller, EPOLL_CTL_MOD, s->fd, &event);
}

static void on_event(struct subscriber *s, uint32_t events)
{
	if (s->phase == PHASE_CONNECTING)
		send_request(s);
	if (s->phase == PHASE_CLOSED)
		return; /* the failed connect has been counted */
	if (!(events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) || s->stuck)
		return;
	bool was_ready = s->ready;
	subscriber_read(&reader, s, events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
	if (!was_ready && s->ready)
		ready++;
	else if (!was_ready && s->phase == PHASE_CLOSED)
		failed++;
	if (s->phase == PHASE_CLOSED && s->fd >= 0) {
		close(s->fd);
		s->fd = -1;
	}
}

/* One round of events, not later than UNTIL. Returns how many there were. */
static int turn(uint64_t until)
{
	struct epoll_event events[EVENTS];
	uint64_t now = now_us(), left = until > now ? until - now : 0;
	if (left > SLICE_US)
		left = SLICE_US;
	int n = epoll_wait(poller, events, EVENTS, (int)((left + 999) / 1000));
	for (int i = 0; i < n; i++)
		on_event(events[i].data.ptr, events[i].events);
	return n;
}

static void turn_until(uint64_t until)
{
	do
		turn(until);
	while (now_us() < until);
}

static bool may_open(uint64_t started)
{
	if (opened >= (unsigned)options.subscribers || opened - ready - failed >= (unsigned)options.connecting)
		return false;
	double passed = (double)(now_us() - started) / 1e6;
	return !options.connect_rate || opened < passed * options.connect_rate;
}

static double connect_all(void)
{
	uint64_t started = now_us(), limit = started + (uint64_t)(options.connect_timeout * 1e6);
	unsigned wanted = (unsigned)options.subscribers;
	while (ready + failed < wanted && now_us() < limit) {
		while (may_open(started)) {
			struct subscriber *s = &subscribers[opened++];
			if (!open_socket(s))
				give_up(s, errno);
		}
		turn(now_us() + 1000);
	}
	return (double)(now_us() - started) / 1e6;
}

/* Measuring */

struct moment {
	uint64_t at_us, messages, bytes, reads, published, posts, deflated;
	double cpu; /* seconds of the reading thread */
};

static struct moment look(void)
{
	struct rusage usage;
	getrusage(RUSAGE_THREAD, &usage);
	struct moment m = {
		.at_us = now_us(), .messages = reader.tally.messages, .bytes = reader.tally.bytes,
		.reads = reader.tally.reads, .published = publisher.published, .posts = publisher.posts,
		.deflated = reader.tally.deflated,
	};
	m.cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
		(double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
	return m;
}

static void tell(const char *phase)
{
	printf("{\"phase\":\"%s\"}\n", phase);
	fflush(stdout);
}

static void stick(void)
{
	for (unsigned i = 0; i < opened; i++) {
		struct subscriber *s = &subscribers[i];
		if (!is_stuck_one(i) || s->phase != PHASE_OPEN)
			continue;
		s->stuck = true;
		epoll_ctl(poller, EPOLL_CTL_DEL, s->fd, NULL);
	}
}

static void start_publisher(void)
{
	publisher.dialect = reader.dialect;
	publisher.port = (int)options.publish_port;
	publisher.rate = options.rate;
	publisher.batch = (unsigned)options.batch;
	publisher.size = (unsigned)options.size;
	if (!publisher_start(&publisher))
		die(1, "cannot start the publisher");
}

static void drain(void)
{
	uint64_t limit = now_us() + (uint64_t)(options.drain * 1e6), quiet_since = now_us();
	while (now_us() < limit && now_us() - quiet_since < QUIET_US) {
		uint64_t before = reader.tally.messages;
		turn(now_us() + SLICE_US);
		if (reader.tally.messages != before)
			quiet_since = now_us();
	}
}

/* Messages that readers with an open connection never got, because none came after
 * them that could have shown the gap. */
static uint64_t count_tail(void)
{
	uint64_t tail = 0;
	for (unsigned i = 0; publisher.counters && i < opened; i++) {
		struct subscriber *s = &subscribers[i];
		for (unsigned j = 0; !s->stuck && s->phase == PHASE_OPEN && j < reader.dialect.per_subscriber; j++) {
			unsigned channel = (s->first_channel + j) % reader.dialect.channels;
			if (publisher.counters[channel] > s->expected[j])
				tail += publisher.counters[channel] - s->expected[j];
		}
	}
	return tail;
}

static void report(const struct moment *a, const struct moment *b, double connecting)
{
	const struct tally *t = &reader.tally;
	double seconds = (double)(b->at_us - a->at_us) / 1e6;
	unsigned stuck = 0;
	for (unsigned i = 0; i < opened; i++)
		stuck += subscribers[i].stuck;
	printf("{\"phase\":\"done\",\"subscribers\":%u,\"failed\":%u,\"stuck\":%u,\"closed\":%llu,"
	       "\"connects_per_s\":%.1f,\"seconds\":%.3f,",
	       ready, failed, stuck, (unsigned long long)t->closed, ready / connecting, seconds);
	printf("\"published_per_s\":%.1f,\"posts_per_s\":%.1f,\"delivered_per_s\":%.1f,"
	       "\"bytes_per_s\":%.0f,\"deflated_per_s\":%.1f,\"reads_per_s\":%.0f,\"client_cpu\":%.4f,",
	       (double)(b->published - a->published) / seconds, (double)(b->posts - a->posts) / seconds,
	       (double)(b->messages - a->messages) / seconds, (double)(b->bytes - a->bytes) / seconds,
	       (double)(b->deflated - a->deflated) / seconds,
	       (double)(b->reads - a->reads) / seconds, (b->cpu - a->cpu) / seconds);
	printf("\"samples\":%llu,\"p50_ms\":%.3f,\"p90_ms\":%.3f,\"p99_ms\":%.3f,\"p999_ms\":%.3f,\"max_ms\":%.3f,",
	       (unsigned long long)reader.latency.count,
	       (double)histogram_quantile(&reader.latency, 0.50) / 1e3,
	       (double)histogram_quantile(&reader.latency, 0.90) / 1e3,
	       (double)histogram_quantile(&reader.latency, 0.99) / 1e3,
	       (double)histogram_quantile(&reader.latency, 0.999) / 1e3, (double)reader.latency.largest / 1e3);
	printf("\"received\":%llu,\"missing\":%llu,\"tail\":%llu,\"repeated\":%llu,\"foreign\":%llu,"
	       "\"malformed\":%llu,\"notices\":%llu,\"refused\":%llu,\"reason\":\"%s\",\"publish_error\":\"%s\"}\n",
	       (unsigned long long)t->messages, (unsigned long long)t->missing,
	       (unsigned long long)count_tail(), (unsigned long long)t->repeated,
	       (unsigned long long)t->foreign, (unsigned long long)t->malformed,
	       (unsigned long long)t->notices, (unsigned long long)publisher.refused, t->reason,
	       publisher.error);
	fflush(stdout);
}

static void prepare(void)
{
	reader.dialect = (struct dialect){
		.server = name_index(server_names, SERVERS, options.server),
		.transport = name_index(transport_names, TRANSPORTS, options.transport),
		.channels = (unsigned)options.channels,
		.per_subscriber = (unsigned)options.per_subscriber,
		.deflate = options.deflate > 0,
	};
	reader.sample_every = (unsigned)options.sample;
	subscribers = calloc((size_t)options.subscribers, sizeof *subscribers);
	poller = epoll_create1(EPOLL_CLOEXEC);
	if (!reader_init(&reader) || !subscribers || poller < 0)
		die(1, "out of memory or descriptors");
	for (unsigned i = 0; i < (unsigned)options.subscribers; i++)
		if (!subscriber_init(&reader, &subscribers[i], i))
			die(1, "out of memory");
	/* Phases, one answer that the publisher may wait for, and some slack. */
	signal(SIGALRM, too_long);
	alarm((unsigned)(options.connect_timeout + options.warmup + options.seconds + options.drain) + 40);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		parse_option(argv[i]);
	check_options();
	raise_descriptor_limit();
	prepare();
	double connecting = connect_all();
	if (!ready)
		die(1, reader.tally.reason[0] ? reader.tally.reason : "no subscriber got through");
	turn_until(now_us() + SETTLE_US);
	tell("connected");
	stick();
	if (options.rate > 0)
		start_publisher();
	turn_until(now_us() + (uint64_t)(options.warmup * 1e6));
	tell("measuring");
	reader.since_us = clock_us(CLOCK_REALTIME);
	struct moment a = look();
	turn_until(a.at_us + (uint64_t)(options.seconds * 1e6));
	struct moment b = look();
	tell("measured");
	if (options.rate > 0)
		publisher_stop(&publisher);
	drain();
	if (options.rate > 0)
		publisher_join(&publisher);
	report(&a, &b, connecting);
	return 0;
}
