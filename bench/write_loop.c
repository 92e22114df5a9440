/* The floor: a server that does nothing but write() each event to each subscriber. It reads requests as far as it must,
   knows no topics, no authorization and no history, and does not care for readers that are slow.

   write_loop PORT */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#define MAX_CONNECTIONS 100000

static const char HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
static int subscribers[MAX_CONNECTIONS], subscriber_count;
static char request[65536];

static void put(int fd, const char *bytes, size_t size) {
    while (size) {
        ssize_t count = write(fd, bytes, size);
        if (count < 0 && errno != EINTR) return; /* gone */
        if (count > 0) { bytes += count; size -= (size_t)count; }
    }
}

static void fan_out(const char *data) {
    char event[512], chunk[600];
    int size = snprintf(event, sizeof event, "id: urn:uuid:7a3f0b6e-52f4-4f0c-9d7e-1f6a8b2c4d5e\ndata: %.400s\n\n", data);
    int framed = snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n", (unsigned)size, event);
    for (int number = 0; number < subscriber_count; number++) put(subscribers[number], chunk, (size_t)framed);
}

static void serve(int epoll, int fd) {
    ssize_t count = read(fd, request, sizeof request - 1);
    if (count <= 0) {
        for (int number = 0; number < subscriber_count; number++)
            if (subscribers[number] == fd) { subscribers[number] = subscribers[--subscriber_count]; break; }
        epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
        close(fd);
        return;
    }
    request[count] = 0;
    char *data = strstr(request, "\r\n\r\n");
    if (*request == 'G' && subscriber_count < MAX_CONNECTIONS) {
        put(fd, HEAD, sizeof HEAD - 1);
        subscribers[subscriber_count++] = fd;
    } else if (data) {
        put(fd, ANSWER, sizeof ANSWER - 1);
        fan_out(data + 4);
    }
}

static int listener_on(int port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096)) { perror("write_loop"); exit(1); }
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 2) { fprintf(stderr, "usage: write_loop PORT\n"); return 2; }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int listener = listener_on(atoi(argv[1])), epoll = epoll_create1(0), one = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[64];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(epoll, ready, 64, -1);
        for (int number = 0; number < count; number++) {
            if (ready[number].data.fd != listener) { serve(epoll, ready[number].data.fd); continue; }
            int fd = accept(listener, NULL, NULL);
            if (fd < 0) continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
            epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        }
    }
}
