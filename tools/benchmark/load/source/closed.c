/* The closed loop: every connection keeps the same number of messages in flight. */

#include "generator.h"

#define STALLED 10.0

/* Answer every echo with the next message; returns the time that it really took. */
static nanoseconds drive(struct load *load, nanoseconds length, double stalled, struct samples *latencies)
{
    struct epoll_event events[EVENTS];
    nanoseconds start = now(), time = start, heard = start;
    while (time - start < length) {
        int count = wait_for_events(load->poll, events, SECOND / 2);
        for (int index = 0; index < count; index++) {
            struct client *client = events[index].data.ptr;
            if (events[index].events & EPOLLOUT)
                write_pending(load, client);
            if (!(events[index].events & ~(uint32_t)EPOLLOUT))
                continue;
            unsigned complete = receive(load, client);
            heard = time;
            if (!complete)
                continue;
            if (latencies) {
                nanoseconds arrived = now();
                add_sample(latencies, arrived - client->sent_at);
                client->sent_at = arrived;
            }
            send_messages(load, client, complete);
        }
        time = now();
        if (time - heard > in_nanoseconds(stalled))
            fail("no echo for %g s", stalled);
    }
    return time - start;
}

/* With one message in flight it takes latencies: from before the send to after the check. */
void run_closed(const struct options *options)
{
    struct load load = {0};
    struct samples latencies = {0};
    double stalled = options->stalled ? options->stalled : STALLED;
    struct samples *taken = options->in_flight == 1 ? &latencies : NULL;
    open_clients(&load, options, (size_t)options->in_flight);
    for (size_t index = 0; index < load.count; index++) {
        load.clients[index].sent_at = now();
        send_messages(&load, &load.clients[index], (unsigned)options->in_flight);
    }
    drive(&load, in_nanoseconds(options->warm_up), stalled, taken);
    begin_measuring();
    latencies.count = 0;
    uint64_t before = all_complete(&load);
    nanoseconds elapsed = drive(&load, in_nanoseconds(options->seconds), stalled, taken);
    end_measuring(all_complete(&load) - before, elapsed, &latencies);
    close_clients(&load);
}
