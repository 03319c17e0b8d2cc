/* The broadcast: one connection sends, all receive. */

#include <time.h>

#include "generator.h"

#define STALLED 10.0

/* From the last connection to the first message: by then the server knows all of them. */
static const struct timespec SETTLE = {.tv_nsec = 300000000};

/* Keep `in_flight` broadcasts under way, by the slowest receiver. Deliveries are counted. */
void run_broadcast(const struct options *options)
{
    struct epoll_event events[EVENTS];
    struct load load = {0};
    struct samples none = {0};
    double stalled = options->stalled ? options->stalled : STALLED;
    open_clients(&load, options, (size_t)options->in_flight);
    nanosleep(&SETTLE, NULL);
    struct client *sender = load.clients;
    send_messages(&load, sender, (unsigned)options->in_flight);
    size_t waiting = load.count; /* receivers that lack the oldest broadcast that is under way */
    uint64_t oldest = 0, delivered = 0;
    nanoseconds start = now(), heard = start, time = start, began = 0;
    while (!began || time - began < in_nanoseconds(options->seconds)) {
        int count = wait_for_events(load.poll, events, SECOND / 2);
        for (int index = 0; index < count; index++) {
            struct client *client = events[index].data.ptr;
            if (events[index].events & EPOLLOUT)
                write_pending(&load, client);
            if (!(events[index].events & ~(uint32_t)EPOLLOUT))
                continue;
            uint64_t before = client->reading.complete;
            delivered += receive(&load, client);
            waiting -= before <= oldest && oldest < client->reading.complete;
            heard = time;
        }
        while (!waiting) {
            oldest++;
            for (size_t index = 0; index < load.count; index++)
                waiting += load.clients[index].reading.complete <= oldest;
            send_messages(&load, sender, 1);
        }
        time = now();
        if (!began && time - start >= in_nanoseconds(options->warm_up)) {
            begin_measuring();
            began = time;
            delivered = 0;
        }
        if (time - heard > in_nanoseconds(stalled))
            fail("no delivery for %g s", stalled);
    }
    end_measuring(delivered, time - began, &none);
    close_clients(&load);
}
