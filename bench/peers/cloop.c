/* The machine's limit: accept, 101, write(2). No channels, no protocol beyond what the
 * load client needs: what is POSTed to /publish goes to every open socket, in the very
 * bytes that the hub would send (so that both move the same amount).
 *
 * One log of framed bytes in a ring that is mapped twice, so that a slice is always in
 * one piece; each socket has a position in it. A pass over the sockets writes to each
 * what is new; a socket that is full waits for EPOLLOUT; one that lags by more than the
 * ring is closed. Usage: cloop ws|sse. Prints one line of JSON when it is ready. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { RING = 256 << 20, EVENTS = 256, INPUT = 2 << 20, ENVELOPE = 160, DESCRIPTORS = 65536 };

struct peer {
	int fd;
	bool open, full; /* open: it subscribed; until then it is a request that arrives */
	uint64_t position;
	char *input;
	size_t length;
};

static struct peer **peers; /* the open ones */
static unsigned count;
static char *ring;
static uint64_t head, sequence;
static bool websocket;
static int poller;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static char *map_ring(void)
{
	int memory = memfd_create("ring", MFD_CLOEXEC);
	if (memory < 0 || ftruncate(memory, RING))
		die("ring");
	char *base = mmap(NULL, (size_t)RING * 2, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED)
		die("mmap");
	for (int i = 0; i < 2; i++)
		if (mmap(base + (size_t)RING * i, RING, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory,
			 0) == MAP_FAILED)
			die("mmap");
	close(memory);
	return base;
}

static void forget(struct peer *p)
{
	for (unsigned i = 0; p->open && i < count; i++)
		if (peers[i] == p) {
			peers[i] = peers[--count];
			break;
		}
	close(p->fd);
	free(p->input);
	free(p);
}

static int put_frame(char *out, const char *text, size_t length)
{
	unsigned char *p = (unsigned char *)out;
	*p++ = 0x81;
	if (length < 126) {
		*p++ = (unsigned char)length;
	} else {
		*p++ = 126;
		*p++ = (unsigned char)(length >> 8);
		*p++ = (unsigned char)length;
	}
	memcpy(p, text, length);
	return (int)((char *)p - out + (long)length);
}

static void append(const char *data, size_t length)
{
	static char text[65536], event[65536 + 64];
	struct timespec now;
	if (length + ENVELOPE > sizeof text)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	sequence++;
	int size = sprintf(text, "{\"ch\":\"bench:0\",\"ts\":%lld,\"seq\":%llu,\"data\":%.*s}",
			   (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000, (unsigned long long)sequence,
			   (int)length, data);
	char *out = ring + head % RING;
	if (websocket) {
		head += (uint64_t)put_frame(out, text, (size_t)size);
		return;
	}
	size = sprintf(event, "id: %llu\ndata: %.*s\n\n", (unsigned long long)sequence, size, text);
	head += (uint64_t)sprintf(out, "%x\r\n%.*s\r\n", size, size, event);
}

/* Each line is {"channel":"...","data":PAYLOAD}. */
static void publish(const char *text, const char *stop)
{
	while (text < stop) {
		const char *line_end = memchr(text, '\n', (size_t)(stop - text));
		if (!line_end)
			line_end = stop;
		const char *data = memmem(text, (size_t)(line_end - text), "\"data\":", 7);
		if (data)
			append(data + 7, (size_t)(line_end - data) - 8);
		text = line_end + 1;
	}
}

static void say(const struct peer *p, const char *text)
{
	(void)!write(p->fd, text, strlen(text));
}

static void subscribe(struct peer *p)
{
	/* The accept value belongs to the one key that the load client sends. */
	say(p, websocket ? "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			   "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
			 : "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
	p->open = true;
	p->position = head;
	peers[count++] = p;
	free(p->input);
	p->input = NULL;
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = p};
	epoll_ctl(poller, EPOLL_CTL_MOD, p->fd, &event);
}

static size_t content_length(const char *text, size_t length)
{
	static const char name[] = "\r\nContent-Length:";
	for (size_t i = 0; i + sizeof name - 1 <= length; i++)
		if (text[i] == '\r' && !strncasecmp(text + i, name, sizeof name - 1))
			return strtoul(text + i + sizeof name - 1, NULL, 10);
	return 0;
}

static void take_requests(struct peer *p)
{
	char *head_end;
	while (!p->open && p->length && (head_end = memmem(p->input, p->length, "\r\n\r\n", 4)) != NULL) {
		size_t used = (size_t)(head_end + 4 - p->input);
		if (p->input[0] == 'G') {
			subscribe(p);
			return;
		}
		size_t body = content_length(p->input, used);
		if (p->length < used + body)
			return;
		publish(p->input + used, p->input + used + body);
		say(p, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
		p->length -= used + body;
		memmove(p->input, p->input + used + body, p->length);
	}
}

static void on_input(struct peer *p)
{
	static char ignored[4096];
	ssize_t n;
	if (p->open) {
		while ((n = recv(p->fd, ignored, sizeof ignored, MSG_DONTWAIT)) > 0)
			;
		if (!n || errno != EAGAIN)
			forget(p);
		return;
	}
	if (!p->input && !(p->input = malloc(INPUT)))
		die("malloc");
	n = recv(p->fd, p->input + p->length, INPUT - p->length, MSG_DONTWAIT);
	if (n <= 0) {
		forget(p);
		return;
	}
	p->length += (size_t)n;
	take_requests(p);
}

static void accept_all(int listener)
{
	int fd;
	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct peer *p = calloc(1, sizeof *p);
		int on = 1;
		if (!p || fd >= DESCRIPTORS)
			die("accept");
		p->fd = fd;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = p};
		epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
	}
}

static bool write_out(struct peer *p)
{
	uint64_t lag = head - p->position;
	if (lag > RING - INPUT)
		return false;
	ssize_t n = write(p->fd, ring + p->position % RING, lag);
	if (n < 0 && errno != EAGAIN)
		return false;
	p->position += n > 0 ? (uint64_t)n : 0;
	p->full = p->position < head;
	return true;
}

/* Backwards, because a peer that goes is replaced by the last. */
static void deliver(void)
{
	for (unsigned i = count; i-- > 0;)
		if (!peers[i]->full && peers[i]->position < head && !write_out(peers[i]))
			forget(peers[i]);
}

static void turn(int listener)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(poller, events, EVENTS, -1);
	for (int i = 0; i < n; i++) {
		struct peer *p = events[i].data.ptr;
		if (!p) {
			accept_all(listener);
			continue;
		}
		if (events[i].events & EPOLLOUT)
			p->full = false;
		if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
			on_input(p);
	}
	deliver();
}

static int open_listener(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof address;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) || listen(fd, 4096) ||
	    getsockname(fd, (struct sockaddr *)&address, &size))
		die("listen");
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
	epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
	int port = ntohs(address.sin_port);
	printf("{\"event\":\"ready\",\"public\":\"http://127.0.0.1:%d\",\"admin\":\"http://127.0.0.1:%d\"}\n",
	       port, port);
	fflush(stdout);
	return fd;
}

int main(int argc, char **argv)
{
	if (argc != 2 || (strcmp(argv[1], "ws") && strcmp(argv[1], "sse"))) {
		fputs("usage: cloop ws|sse\n", stderr);
		return 2;
	}
	websocket = !strcmp(argv[1], "ws");
	struct rlimit limit;
	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	ring = map_ring();
	peers = calloc(DESCRIPTORS, sizeof *peers);
	poller = epoll_create1(EPOLL_CLOEXEC);
	if (!peers || poller < 0)
		die("start");
	int listener = open_listener();
	for (;;)
		turn(listener);
}
