/* The load generator: WebSocket on raw sockets, with epoll, and no library but libc.
 *
 * It is written in C because it shares two cores with what it measures: what a message costs here must be little beside what
 * it costs a server. `generator.c` reads the command line and says the result; `frames.c` makes what is sent and checks what
 * comes back; `clients.c` connects, sends and receives; one file for each kind of load decides when. A problem of any kind
 * ends the process with status 1 and a line on standard error: nothing that failed can be a figure.
 */
#ifndef GENERATOR_H
#define GENERATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

enum {
    DISTINCT = 64,       /* different messages; they are sent round and round */
    EVENTS = 256,        /* taken from epoll at a time */
    RECEIVE = 256 << 10, /* bytes read at a time */
    HEAD = 8192,         /* bytes of a response's head, at most */
};

#define PATIENCE 20 /* seconds that a connect, or a handshake, may take */
#define FAREWELL 2  /* seconds that a server has to close all connections */

/* Nanoseconds: of a clock that only goes on, or between two readings of it. */
typedef uint64_t nanoseconds;
#define SECOND ((nanoseconds)1000000000)

struct options {
    const char *host; /* a dotted address */
    const char *path;
    long port, size, connections, in_flight, lanes, echo;
    double rate, seconds, warm_up;
    double stalled; /* seconds after which a run fails in which nothing comes; each kind has its own unless it is given */
};

/* generator.c: problems, time, and what is told. */

struct samples {
    nanoseconds *values;
    size_t count, room;
};

_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* As `fail`, with the first of these bytes as they are. */
_Noreturn void fail_over(const void *data, size_t length, const char *format, ...) __attribute__((format(printf, 3, 4)));
void *allocate(size_t count, size_t size);
nanoseconds now(void);
nanoseconds in_nanoseconds(double seconds);
void add_sample(struct samples *samples, nanoseconds value);
/* Say that the measurement begins. */
void begin_measuring(void);
/* Say what was found, free the latencies, and return once standard input has ended: the server's CPU is read before then, and
 * what closing connections costs is no part of it. */
void end_measuring(uint64_t messages, nanoseconds elapsed, struct samples *latencies);

/* frames.c: RFC 6455, as little of it as this needs. */

struct script {
    size_t size;             /* of a payload */
    size_t frame;            /* of a frame */
    unsigned char *payloads; /* DISTINCT of them */
    unsigned char *frames;   /* masked; DISTINCT, and the first ones again, so that any `in_flight` stand one after the other */
};

/* How far one connection has got in what comes back. Begins as zeros. */
struct reading {
    uint64_t complete; /* messages */
    size_t position;   /* in the payload of the message that is coming in */
    size_t left;       /* of the payload of the frame that is coming in */
    unsigned head_length;
    unsigned char head[10];
    bool in_payload, in_message, final;
};

extern const unsigned char GOODBYE[8]; /* a masked close frame that says 1000 */

void make_script(struct script *script, size_t size, size_t in_flight);
void free_script(struct script *script);
/* Compare every byte with what must come; returns how many messages are complete now. A message may come in fragments. */
unsigned read_frames(struct reading *reading, const struct script *script, const unsigned char *data, size_t length);

/* clients.c: connections. */

struct client {
    int socket;
    bool waits;       /* for room to write */
    uint64_t sent;    /* messages, of which the last may not be written yet */
    uint64_t written; /* bytes */
    nanoseconds sent_at;
    struct reading reading;
};

struct load {
    struct script script;
    struct client *clients;
    size_t count;
    int poll;
};

/* A connected, blocking socket on which an upgrade has been asked for. */
int ask_for_upgrade(const struct options *options);
/* The length of the response's head, or 0 if it is not here whole. Fails unless it accepts the upgrade. */
size_t check_upgrade(const unsigned char *data, size_t length);
void open_clients(struct load *load, const struct options *options, size_t in_flight);
/* Send a close frame on each, and let the server close: what it still does is then over before the next one is measured. */
void close_clients(struct load *load);
/* Send the next messages of the script; what cannot be written is written when `write_pending` is called. */
void send_messages(struct load *load, struct client *client, unsigned count);
void write_pending(struct load *load, struct client *client);
/* Read once; returns how many echoes are complete now. */
unsigned receive(struct load *load, struct client *client);
uint64_t all_complete(const struct load *load);
/* Events, of which there are none after `patience`. To the microsecond: latency is what is measured with it. */
int wait_for_events(int poll, struct epoll_event *events, nanoseconds patience);
void watch(int poll, int socket, uint32_t events, void *who);
size_t receive_some(int socket, unsigned char *buffer, size_t room);

/* One file each: the kinds of load. */

void run_broadcast(const struct options *options);
void run_closed(const struct options *options);
void run_connects(const struct options *options);
void run_opened(const struct options *options);

#endif
