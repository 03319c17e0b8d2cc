/* Connections: opened one after the other, then non-blocking in one epoll. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "generator.h"

/* The key and the answer to it of RFC 6455, section 1.3. That a server computes the answer can be seen with one key. */
static const char KEY[] = "dGhlIHNhbXBsZSBub25jZQ==";
static const char ACCEPT[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

static unsigned char buffer[RECEIVE];

static void limit_waiting(int socket, int option, int seconds)
{
    struct timeval limit = {.tv_sec = seconds};
    setsockopt(socket, SOL_SOCKET, option, &limit, sizeof limit);
}

int ask_for_upgrade(const struct options *options)
{
    char request[1024];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options->port)};
    int one = 1, one_socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (one_socket < 0)
        fail("no socket: %s", strerror(errno));
    if (inet_pton(AF_INET, options->host, &address.sin_addr) != 1)
        fail("expected an address like 127.0.0.1, got '%s'", options->host);
    limit_waiting(one_socket, SO_SNDTIMEO, PATIENCE);
    setsockopt(one_socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(one_socket, (struct sockaddr *)&address, sizeof address))
        fail("no connection: %s", strerror(errno));
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: %s:%ld\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
                          options->path, options->host, options->port, KEY);
    if (length >= (int)sizeof request)
        fail("the path is too long");
    if (send(one_socket, request, (size_t)length, 0) != length)
        fail("the request could not be written: %s", strerror(errno));
    return one_socket;
}

size_t check_upgrade(const unsigned char *data, size_t length)
{
    static const char good[] = "HTTP/1.1 101 ";
    const unsigned char *end = memmem(data, length, "\r\n\r\n", 4);
    if (!end)
        return 0;
    size_t head = (size_t)(end - data) + 4;
    if (memcmp(data, good, head < sizeof good - 1 ? head : sizeof good - 1) || !memmem(data, head, ACCEPT, sizeof ACCEPT - 1)) {
        const unsigned char *line = memmem(data, head, "\r\n", 2);
        fail_over(data, (size_t)(line - data), "no upgrade");
    }
    return head;
}

static void finish_handshake(int socket)
{
    size_t length = 0, head = 0;
    limit_waiting(socket, SO_RCVTIMEO, PATIENCE);
    while (!head) {
        if (length == HEAD)
            fail_over(buffer, length, "no upgrade, but a head that does not end");
        ssize_t received = recv(socket, buffer + length, HEAD - length, 0);
        if (received < 0)
            fail("no answer to the handshake: %s", strerror(errno));
        if (!received)
            fail_over(buffer, length, "the server closed the connection during the handshake, after");
        length += (size_t)received;
        head = check_upgrade(buffer, length);
    }
    if (length > head)
        fail_over(buffer + head, length - head, "the server spoke first");
}

void watch(int poll, int socket, uint32_t events, void *who)
{
    struct epoll_event event = {.events = events, .data.ptr = who};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, socket, &event))
        fail("epoll: %s", strerror(errno));
}

void open_clients(struct load *load, const struct options *options, size_t in_flight)
{
    make_script(&load->script, (size_t)options->size, in_flight);
    load->count = (size_t)options->connections;
    load->clients = allocate(load->count, sizeof *load->clients);
    load->poll = epoll_create1(EPOLL_CLOEXEC);
    for (size_t index = 0; index < load->count; index++) {
        struct client *client = &load->clients[index];
        client->socket = ask_for_upgrade(options);
        finish_handshake(client->socket);
        fcntl(client->socket, F_SETFL, O_NONBLOCK);
        watch(load->poll, client->socket, EPOLLIN, client);
    }
}

void close_clients(struct load *load)
{
    for (size_t index = 0; index < load->count; index++) {
        struct client *client = &load->clients[index];
        /* A close frame cannot stand within another frame. */
        bool whole = client->written == client->sent * load->script.frame;
        if (!whole || send(client->socket, GOODBYE, sizeof GOODBYE, 0) < 0)
            shutdown(client->socket, SHUT_RDWR);
    }
    nanoseconds end = now() + FAREWELL * SECOND;
    for (size_t index = 0; index < load->count; index++) {
        int socket = load->clients[index].socket;
        limit_waiting(socket, SO_RCVTIMEO, 1);
        fcntl(socket, F_SETFL, 0);
        while (now() < end && recv(socket, buffer, RECEIVE, 0) > 0)
            ;
        close(socket);
    }
    close(load->poll);
    free(load->clients);
    free_script(&load->script);
}

void send_messages(struct load *load, struct client *client, unsigned count)
{
    client->sent += count;
    write_pending(load, client);
}

void write_pending(struct load *load, struct client *client)
{
    /* What is sent is the script over and over, so that what is not written yet needs no copy. */
    size_t pending = client->sent * load->script.frame - client->written;
    size_t start = client->written % (DISTINCT * load->script.frame);
    ssize_t written = pending ? send(client->socket, load->script.frames + start, pending, 0) : 0;
    if (written < 0) {
        if (errno != EAGAIN)
            fail("a message could not be written: %s", strerror(errno));
        written = 0;
    }
    client->written += (size_t)written;
    bool waits = (size_t)written < pending;
    if (waits != client->waits) {
        struct epoll_event event = {.events = waits ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = client};
        if (epoll_ctl(load->poll, EPOLL_CTL_MOD, client->socket, &event))
            fail("epoll: %s", strerror(errno));
        client->waits = waits;
    }
}

size_t receive_some(int socket, unsigned char *into, size_t room)
{
    ssize_t received = recv(socket, into, room, MSG_DONTWAIT);
    if (!received)
        fail("the server closed a connection");
    if (received < 0 && errno != EAGAIN)
        fail("the server closed a connection: %s", strerror(errno));
    return received < 0 ? 0 : (size_t)received;
}

unsigned receive(struct load *load, struct client *client)
{
    size_t length = receive_some(client->socket, buffer, RECEIVE);
    return read_frames(&client->reading, &load->script, buffer, length);
}

uint64_t all_complete(const struct load *load)
{
    uint64_t sum = 0;
    for (size_t index = 0; index < load->count; index++)
        sum += load->clients[index].reading.complete;
    return sum;
}

int wait_for_events(int poll, struct epoll_event *events, nanoseconds patience)
{
    struct timespec timeout = {(time_t)(patience / SECOND), (long)(patience % SECOND)};
    int count = epoll_pwait2(poll, events, EVENTS, &timeout, NULL);
    if (count < 0 && errno != EINTR)
        fail("epoll: %s", strerror(errno));
    return count < 0 ? 0 : count;
}
