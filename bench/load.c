/* The load: subscribers that count events, and pools of clients that send requests. One thread, one epoll.

   load HOST PORT

   Commands are lines on stdin, each is answered by one line of JSON on stdout:
     pool NAME CONNECTIONS FILE    clients on kept-alive connections that send the requests in FILE, one after the other
     open COUNT WINDOW EVENTS FILE COUNT more subscribers, the nth sending the nth request of FILE; answered when the
                                   last one has its response head. WINDOW: how many may be without one at a time
     complete SECONDS              answered when each subscriber has EVENTS events (of the newest `open`)
     start NAME RATE COUNT         COUNT requests, RATE a second, or (0) each client the next as soon as it is answered
     answered NAME SECONDS         answered when the pool has all its answers
     events COUNT SECONDS          answered when so many events have come since the last `report`
     report                        what was counted since the last one
     close                         end all subscribers
   An event is an @ and 16 hexadecimal digits in a subscriber's bytes, CLOCK_MONOTONIC in nanoseconds when it was due to
   be sent; in a request, an @ and 16 zeros are replaced by it. Latency counts from when a request was due, not from when
   a client was free to send it; an event of history says 0 and has none. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define BATCH 128               /* descriptors looked at before timers are */
#define PER_ADDRESS 20000       /* connections from one loopback address: there are 28,000 ports */
#define DIGITS 16
#define MAX_POOLS 8
#define MAX_CLIENTS 256
#define ANSWER 4096

enum kind { COMMANDS, TIMER, SUBSCRIBER, CLIENT };
enum state { CLOSED, CONNECTING, HEAD, STREAM, IDLE, BUSY };

/* Counts of microseconds in buckets that are 1/64 wide of what they count. */
struct histogram { uint64_t counts[64 * 40], total, max; };

struct source { enum kind kind; int fd; enum state state; };

struct subscriber {
    struct source source;
    uint32_t events, last, number;
    uint8_t digits;             /* of a time that has only partly come; 0: none; 1: the @ */
    uint8_t place;              /* in the status line */
    uint64_t due, begun;
};

struct request { char *bytes, *stamp; size_t size; }; /* the stamp: where its time stands, or NULL */
struct requests { char *file; struct request *all; uint32_t count; };

struct pool;
struct client {
    struct source source; struct pool *pool; struct request *request; size_t sent, got; uint64_t due;
    char answer[ANSWER + 1];
};

struct pool {
    char name[32];
    struct requests requests;
    int clients; struct client client[MAX_CLIENTS];
    double rate; uint64_t begun, count, issued, answers, failed;
    struct histogram latency;
};

static struct sockaddr_storage target; static socklen_t target_size; static int loopback;
static int epoll, timer;
static struct subscriber **subscribers; static uint32_t opened, wanted, heads, window, refused, lost, unready;
static uint64_t opening_since, last_event, last_answer, began; static int closing;
static struct requests subscriptions;
static struct pool *pools[MAX_POOLS]; static int pool_count;
static uint64_t events; static struct histogram latency, connecting;
static uint32_t complete, each;
static enum { NOTHING, OPENING, ANSWERED, EVENTS, COMPLETE } awaited;
static struct pool *awaited_pool; static uint64_t awaited_events, deadline;
static char buffer[1 << 17];

static void fail(const char *what) { perror(what); exit(1); }

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void record(struct histogram *histogram, uint64_t nanoseconds) {
    uint64_t value = nanoseconds / 1000;
    int shift = value < 128 ? 0 : 57 - __builtin_clzll(value);
    histogram->counts[shift ? 64 * shift + (value >> shift) : value]++;
    histogram->total++;
    if (value > histogram->max) histogram->max = value;
}

/* In milliseconds. */
static double quantile(const struct histogram *histogram, double part) {
    uint64_t passed = 0, wanted_rank = (uint64_t)(part * (double)histogram->total);
    for (uint64_t bucket = 0; bucket < sizeof histogram->counts / sizeof *histogram->counts; bucket++) {
        passed += histogram->counts[bucket];
        if (passed > wanted_rank) {
            int shift = bucket < 128 ? 0 : (int)(bucket / 64) - 1;
            return (double)((shift ? 64 + bucket % 64 : bucket) << shift) / 1000;
        }
    }
    return (double)histogram->max / 1000;
}

static void show(const char *name, const struct histogram *histogram) {
    printf("\"%s\": {\"number\": %lu, \"p50\": %.3f, \"p99\": %.3f, \"max\": %.3f}", name, histogram->total,
           quantile(histogram, 0.5), quantile(histogram, 0.99), (double)histogram->max / 1000);
}

static void watch(struct source *source, uint32_t for_what, int operation) {
    struct epoll_event event = {.events = for_what, .data.ptr = source};
    if (epoll_ctl(epoll, operation, source->fd, &event)) fail("epoll_ctl");
}

static int connection(uint32_t number) {
    int fd = socket(target.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    if (fd < 0) fail("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    /* A reset at the end: no port waits, and the next run has them all. */
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    if (loopback) {
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002 + number / PER_ADDRESS)};
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(fd, (struct sockaddr *)&from, sizeof from)) fail("bind");
    }
    if (connect(fd, (struct sockaddr *)&target, target_size) && errno != EINPROGRESS) fail("connect");
    return fd;
}

static void disconnect(struct source *source) {
    if (source->state != CLOSED) close(source->fd);
    source->state = CLOSED;
}

/* ---- subscribers ---- */

static void open_more(void) {
    while (opened < wanted && unready < window) {
        struct subscriber *subscriber = calloc(1, sizeof *subscriber);
        subscriber->number = opened;
        subscriber->begun = now();
        subscriber->source = (struct source){SUBSCRIBER, connection(opened), CONNECTING};
        subscribers[opened++] = subscriber;
        unready++;
        watch(&subscriber->source, EPOLLOUT, EPOLL_CTL_ADD);
    }
}

static void subscriber_over(struct subscriber *subscriber) {
    if (subscriber->source.state == CONNECTING || subscriber->source.state == HEAD) { unready--; heads++; refused++; }
    else lost++;
    disconnect(&subscriber->source);
}

static void send_head(struct subscriber *subscriber) {
    struct request *request = &subscriptions.all[subscriber->number % subscriptions.count];
    ssize_t sent = send(subscriber->source.fd, request->bytes, request->size, MSG_NOSIGNAL);
    if (sent != (ssize_t)request->size) { subscriber_over(subscriber); return; }
    subscriber->source.state = HEAD;
    /* Edges: otherwise the kernel looks at each descriptor a second time after it was read. */
    watch(&subscriber->source, EPOLLIN | EPOLLET, EPOLL_CTL_MOD);
}

static void received(struct subscriber *subscriber, uint64_t time) {
    events++;
    subscriber->events++;
    if (subscriber->events == each) complete++;
    if (subscriber->due && time > subscriber->due) record(&latency, time - subscriber->due);
}

static void count_events(struct subscriber *subscriber, const char *at, const char *end, uint64_t time) {
    while (at < end) {
        if (!subscriber->digits) {
            at = memchr(at, '@', (size_t)(end - at));
            if (!at) return;
            at++;
            subscriber->digits = 1;
            subscriber->due = 0;
        }
        for (; at < end && subscriber->digits <= DIGITS; at++, subscriber->digits++)
            subscriber->due = subscriber->due << 4 | (uint64_t)(*at <= '9' ? *at - '0' : (*at & 7) + 9);
        if (subscriber->digits > DIGITS) { subscriber->digits = 0; received(subscriber, time); }
    }
}

/* What follows the response head, or NULL while it is not complete, or if the status is not a good one. */
static const char *after_head(struct subscriber *subscriber, const char *at, const char *end) {
    for (; at < end; at++) {
        subscriber->last = subscriber->last << 8 | (unsigned char)*at;
        if (subscriber->place < 10 && subscriber->place++ == 9 && *at != '2') { subscriber_over(subscriber); break; }
        if (subscriber->last == 0x0d0a0d0a) return at + 1;
    }
    return NULL;
}

static void take(struct subscriber *subscriber, ssize_t count) {
    const char *at = buffer;
    uint64_t time = now();
    if (subscriber->source.state == HEAD) {
        if (!(at = after_head(subscriber, at, buffer + count))) return;
        subscriber->source.state = STREAM;
        unready--;
        heads++;
        record(&connecting, time - subscriber->begun);
    }
    count_events(subscriber, at, buffer + count, time);
    last_event = time;
}

static void read_stream(struct subscriber *subscriber) {
    ssize_t count;
    do {
        count = recv(subscriber->source.fd, buffer, sizeof buffer, 0);
        if (count > 0) take(subscriber, count);
        else if (!(count < 0 && errno == EAGAIN)) subscriber_over(subscriber);
    } while (count == sizeof buffer && subscriber->source.state != CLOSED);
}

/* Not while a batch of ready descriptors may still name one of them. */
static void close_all(void) {
    closing = 0;
    for (uint32_t number = 0; number < opened; number++) {
        disconnect(&subscribers[number]->source);
        free(subscribers[number]);
    }
    opened = wanted = heads = unready = complete = refused = lost = 0;
}

/* ---- clients ---- */

static void connect_client(struct client *client) {
    client->source = (struct source){CLIENT, connection(0), IDLE};
    client->got = 0;
    watch(&client->source, EPOLLIN, EPOLL_CTL_ADD);
}

static void write_rest(struct client *client) {
    struct request *request = client->request;
    ssize_t sent = send(client->source.fd, request->bytes + client->sent, request->size - client->sent, MSG_NOSIGNAL);
    if (sent > 0) client->sent += (size_t)sent;
    /* Before it is connected, too. */
    watch(&client->source, client->sent < request->size ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
}

static void send_next(struct client *client, uint64_t due) {
    struct pool *pool = client->pool;
    struct request *request = client->request = &pool->requests.all[pool->issued++ % pool->requests.count];
    client->due = due;
    client->sent = client->got = 0;
    client->source.state = BUSY;
    if (request->stamp) {
        char digits[DIGITS + 1];
        snprintf(digits, sizeof digits, "%016lx", due);
        memcpy(request->stamp + 1, digits, DIGITS);
    }
    ssize_t sent = send(client->source.fd, request->bytes, request->size, MSG_NOSIGNAL);
    client->sent = sent > 0 ? (size_t)sent : 0;
    if (client->sent < request->size) watch(&client->source, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
}

static uint64_t next_due(const struct pool *pool) {
    return pool->begun + (uint64_t)((double)pool->issued * 1e9 / pool->rate);
}

/* Send what is due, as far as clients are free. */
static void drive(struct pool *pool) {
    for (int number = 0; number < pool->clients && pool->issued < pool->count; number++) {
        struct client *client = &pool->client[number];
        if (client->source.state != IDLE) continue;
        uint64_t time = now(), due = pool->rate > 0 ? next_due(pool) : time;
        if (due > time) return;
        send_next(client, due);
    }
}

static int is_whole(const char *answer, size_t size) {
    const char *body = memmem(answer, size, "\r\n\r\n", 4), *length;
    if (!body) return 0;
    size_t head = (size_t)(body + 4 - answer);
    if ((length = strcasestr(answer, "\ncontent-length:")) && length < body)
        return size >= head + (size_t)atol(length + 16);
    if ((length = strcasestr(answer, "\ntransfer-encoding:")) && length < body)
        return size >= 5 && !memcmp(answer + size - 5, "0\r\n\r\n", 5);
    return 1;
}

static void client_over(struct client *client) {
    if (client->source.state == BUSY) { client->pool->failed++; client->pool->answers++; }
    disconnect(&client->source);
    connect_client(client);
}

static void read_answer(struct client *client) {
    struct pool *pool = client->pool;
    ssize_t count = recv(client->source.fd, client->answer + client->got, ANSWER - client->got, 0);
    if (count <= 0) { if (!(count < 0 && errno == EAGAIN)) client_over(client); return; }
    client->got += (size_t)count;
    client->answer[client->got] = 0;
    if (!is_whole(client->answer, client->got)) return;
    last_answer = now();
    record(&pool->latency, last_answer - client->due);
    pool->answers++;
    if (client->answer[9] != '2') pool->failed++;
    if (strcasestr(client->answer, "\nconnection: close")) { client->source.state = IDLE; client_over(client); }
    client->source.state = IDLE;
}

/* ---- commands ---- */

static char *contents(const char *path, size_t *size) {
    FILE *file = fopen(path, "r");
    if (!file) fail(path);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *text = calloc(1, *size + 1);
    if (fread(text, 1, *size, file) != *size) fail(path);
    fclose(file);
    return text;
}

/* One after the other, each with as much of a body as its Content-Length says. */
static struct requests requests_in(const char *path) {
    size_t size;
    struct requests found = {.file = contents(path, &size)};
    char *at = found.file, *end = at + size, *body;
    while ((body = strstr(at, "\r\n\r\n"))) {
        *body = 0; /* it is looked for in this head alone: there may be 10,000 */
        char *length = strcasestr(at, "\ncontent-length:"), *next = body + 4 + (length ? atol(length + 16) : 0);
        *body = '\r';
        if (next > end) next = end;
        size_t whole = (size_t)(next - at);
        found.all = realloc(found.all, (found.count + 1) * sizeof *found.all);
        found.all[found.count++] = (struct request){at, memmem(at, whole, "@0000000000000000", DIGITS + 1), whole};
        at = next;
    }
    return found;
}

static struct pool *pool_named(const char *name) {
    for (int number = 0; number < pool_count; number++)
        if (!strcmp(pools[number]->name, name)) return pools[number];
    fprintf(stderr, "load: no pool is called %s\n", name);
    exit(1);
}

static void add_pool(const char *name, int clients, const char *path) {
    if (clients > MAX_CLIENTS || pool_count == MAX_POOLS) { fprintf(stderr, "load: too many clients\n"); exit(1); }
    struct pool *pool = pools[pool_count++] = calloc(1, sizeof *pool);
    snprintf(pool->name, sizeof pool->name, "%s", name);
    pool->requests = requests_in(path);
    pool->clients = clients;
    for (int number = 0; number < clients; number++) {
        pool->client[number].pool = pool;
        connect_client(&pool->client[number]);
    }
}

static void begin(struct pool *pool, double rate, uint64_t count) {
    pool->rate = rate;
    pool->count = count;
    pool->issued = pool->answers = 0;
    pool->begun = began = now();
}

static void report(void) {
    printf("{\"events\": %lu, \"began\": %.6f, \"last\": %.6f, \"answered\": %.6f, \"refused\": %u, \"lost\": %u, ", events,
           (double)began / 1e9, (double)last_event / 1e9, (double)last_answer / 1e9, refused, lost);
    show("latency", &latency);
    printf(", ");
    show("connecting", &connecting);
    for (int number = 0; number < pool_count; number++) {
        printf(", ");
        show(pools[number]->name, &pools[number]->latency);
        printf(", \"%s failed\": %lu", pools[number]->name, pools[number]->failed);
        memset(&pools[number]->latency, 0, sizeof latency);
        pools[number]->failed = 0;
    }
    printf("}\n");
    events = 0;
    memset(&latency, 0, sizeof latency);
    memset(&connecting, 0, sizeof connecting);
}

static void await(int what, double seconds) {
    awaited = what;
    deadline = now() + (uint64_t)(seconds * 1e9);
}

static void command(char *line) {
    char name[32], path[4096];
    double rate, seconds;
    uint64_t count;
    int clients;
    if (sscanf(line, "pool %31s %d %4095[^\n]", name, &clients, path) == 3) add_pool(name, clients, path);
    else if (sscanf(line, "open %lu %u %u %4095[^\n]", &count, &window, &each, path) == 4) {
        free(subscriptions.file);
        free(subscriptions.all);
        subscriptions = requests_in(path);
        wanted = opened + (uint32_t)count;
        subscribers = realloc(subscribers, wanted * sizeof *subscribers);
        opening_since = now();
        await(OPENING, 120);
        return;
    } else if (sscanf(line, "start %31s %lf %lu", name, &rate, &count) == 3) begin(pool_named(name), rate, count);
    else if (sscanf(line, "answered %31s %lf", name, &seconds) == 2) {
        awaited_pool = pool_named(name);
        await(ANSWERED, seconds);
        return;
    } else if (sscanf(line, "events %lu %lf", &awaited_events, &seconds) == 2) { await(EVENTS, seconds); return; }
    else if (sscanf(line, "complete %lf", &seconds) == 1) { await(COMPLETE, seconds); return; }
    else if (!strncmp(line, "report", 6)) { report(); return; }
    else if (!strncmp(line, "close", 5)) closing = 1;
    else { fprintf(stderr, "load: unknown command: %s", line); exit(1); }
    printf("{}\n");
}

static void read_commands(void) {
    char line[8192];
    if (!fgets(line, sizeof line, stdin)) exit(0);
    command(line);
    fflush(stdout);
}

static int is_reached(void) {
    switch (awaited) {
    case OPENING: return heads == wanted;
    case ANSWERED: return awaited_pool->answers >= awaited_pool->count;
    case EVENTS: return events >= awaited_events;
    case COMPLETE: return complete >= opened - refused;
    default: return 0;
    }
}

static void answer_if_reached(void) {
    if (awaited == NOTHING) return;
    uint64_t time = now();
    int reached = is_reached();
    if (!reached && time < deadline) return;
    awaited = NOTHING;
    printf("{\"reached\": %s, \"seconds\": %.6f, \"at\": %.6f}\n", reached ? "true" : "false",
           (double)(time - opening_since) / 1e9, (double)time / 1e9);
    fflush(stdout);
}

static void set_timer(void) {
    uint64_t next = now() + 100000000;
    for (int number = 0; number < pool_count; number++) {
        const struct pool *pool = pools[number];
        if (pool->rate > 0 && pool->issued < pool->count && next_due(pool) < next) next = next_due(pool);
    }
    struct itimerspec when = {.it_value = {(time_t)(next / 1000000000), (long)(next % 1000000000)}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void handle(struct source *source, uint32_t what) {
    uint64_t expired;
    if (source->state == CLOSED) return;
    if (source->kind == COMMANDS) read_commands();
    else if (source->kind == TIMER) { if (read(timer, &expired, sizeof expired) < 0 && errno != EAGAIN) fail("timer"); }
    else if (source->kind == CLIENT) {
        if (what & EPOLLOUT) write_rest((struct client *)source);
        if (what & ~(uint32_t)EPOLLOUT) read_answer((struct client *)source);
    } else if (source->state == CONNECTING) send_head((struct subscriber *)source);
    else read_stream((struct subscriber *)source);
}

static void resolve(const char *host, const char *port) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int error = getaddrinfo(host, port, &hints, &found);
    if (error) { fprintf(stderr, "load: %s: %s\n", host, gai_strerror(error)); exit(1); }
    memcpy(&target, found->ai_addr, found->ai_addrlen);
    target_size = found->ai_addrlen;
    loopback = target.ss_family == AF_INET && ntohl(((struct sockaddr_in *)&target)->sin_addr.s_addr) >> 24 == 127;
    freeaddrinfo(found);
}

int main(int argc, char **argv) {
    if (argc != 3) { fprintf(stderr, "usage: load HOST PORT\n"); return 2; }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    resolve(argv[1], argv[2]);
    setvbuf(stdin, NULL, _IONBF, 0); /* a line that fgets had read ahead would be invisible to epoll */
    epoll = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct source commands = {COMMANDS, 0, IDLE}, ticks = {TIMER, timer, IDLE};
    watch(&commands, EPOLLIN, EPOLL_CTL_ADD);
    watch(&ticks, EPOLLIN, EPOLL_CTL_ADD);
    struct epoll_event ready[BATCH];
    for (;;) {
        open_more();
        for (int number = 0; number < pool_count; number++) drive(pools[number]);
        set_timer();
        int count = epoll_wait(epoll, ready, BATCH, -1);
        for (int number = 0; number < count; number++) handle(ready[number].data.ptr, ready[number].events);
        answer_if_reached();
        if (closing) close_all();
    }
}
