/* Connections, one after the other in several lanes: connect, upgrade, with or without a first echo, close. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "generator.h"

#define STALLED 20.0

enum { FIRST = 33 /* bytes of a connection's message */ };

/* One connection at a time. */
struct lane {
    int socket;
    bool upgraded;
    nanoseconds started;
    struct reading reading;
    size_t length;
    unsigned char head[HEAD];
};

static void open_lane(struct lane *lane, int poll, const struct options *options)
{
    lane->started = now();
    lane->upgraded = false;
    lane->length = 0;
    lane->reading = (struct reading){0};
    lane->socket = ask_for_upgrade(options);
    watch(poll, lane->socket, EPOLLIN, lane);
}

/* Read once; returns whether the connection has all that it waits for. */
static bool advance(struct lane *lane, const struct script *script, bool echo)
{
    size_t before = lane->length, head = 0;
    if (before == HEAD)
        fail_over(lane->head, HEAD, "no upgrade, but a head that does not end");
    size_t received = receive_some(lane->socket, lane->head + before, HEAD - before);
    if (lane->upgraded)
        return read_frames(&lane->reading, script, lane->head, received);
    lane->length += received;
    head = check_upgrade(lane->head, lane->length);
    if (!head)
        return false;
    lane->upgraded = true;
    if (!echo)
        return true;
    if (send(lane->socket, script->frames, script->frame, 0) != (ssize_t)script->frame)
        fail("a message could not be written: %s", strerror(errno));
    size_t rest = lane->length - head;
    lane->length = 0;
    return read_frames(&lane->reading, script, lane->head + head, rest);
}

void run_connects(const struct options *options)
{
    struct epoll_event events[EVENTS];
    struct samples latencies = {0};
    struct script script;
    double stalled = options->stalled ? options->stalled : STALLED;
    size_t lanes = (size_t)options->lanes;
    struct lane *all = allocate(lanes, sizeof *all);
    int poll = epoll_create1(EPOLL_CLOEXEC);
    make_script(&script, FIRST, 1);
    for (size_t index = 0; index < lanes; index++)
        open_lane(&all[index], poll, options);
    nanoseconds start = now(), heard = start, time = start, began = 0;
    while (!began || time - began < in_nanoseconds(options->seconds)) {
        int count = wait_for_events(poll, events, SECOND / 5);
        for (int index = 0; index < count; index++) {
            struct lane *lane = events[index].data.ptr;
            heard = time;
            if (!advance(lane, &script, options->echo))
                continue;
            add_sample(&latencies, now() - lane->started);
            (void)!send(lane->socket, GOODBYE, sizeof GOODBYE, 0);
            close(lane->socket);
            open_lane(lane, poll, options);
        }
        time = now();
        if (!began && time - start >= in_nanoseconds(options->warm_up)) {
            begin_measuring();
            began = time;
            latencies.count = 0;
        }
        if (time - heard > in_nanoseconds(stalled))
            fail("no connection for %g s", stalled);
    }
    end_measuring(latencies.count, time - began, &latencies);
    for (size_t index = 0; index < lanes; index++)
        close(all[index].socket);
    close(poll);
    free(all);
    free_script(&script);
}
