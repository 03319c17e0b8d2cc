/* The open loop: a fixed rate over all connections, one message in flight on each. */

#include "generator.h"

#define STALLED 5.0 /* after the last message */
#define LOOK_AGAIN (SECOND / 1000)

/* Send at the rate, and take what comes back until nothing is in flight. */
static void drive(struct load *load, const struct options *options, double seconds, struct samples *latencies)
{
    struct epoll_event events[EVENTS];
    nanoseconds start = now(), elapsed = 0, length = in_nanoseconds(seconds);
    uint64_t sent = 0, flying = 0;
    double rate = options->rate, stalled = options->stalled ? options->stalled : STALLED;
    uint64_t wanted = (uint64_t)(seconds * rate);
    while (elapsed < length || (flying && elapsed < length + in_nanoseconds(stalled))) {
        nanoseconds wait = LOOK_AGAIN;
        while (sent < wanted) {
            struct client *client = &load->clients[sent % load->count];
            nanoseconds due = in_nanoseconds((double)sent / rate);
            if (client->sent != client->reading.complete)
                break; /* it is its turn, and its last message is still under way */
            if (due > elapsed) {
                wait = due - elapsed;
                break;
            }
            client->sent_at = start + due;
            send_messages(load, client, 1);
            sent++;
            flying++;
        }
        int count = wait_for_events(load->poll, events, wait);
        for (int index = 0; index < count; index++) {
            struct client *client = events[index].data.ptr;
            if (events[index].events & EPOLLOUT)
                write_pending(load, client);
            if (!(events[index].events & ~(uint32_t)EPOLLOUT) || !receive(load, client))
                continue;
            add_sample(latencies, now() - client->sent_at);
            flying--;
        }
        elapsed = now() - start;
    }
    if (flying)
        fail("%llu echoes are missing %g s after the last message", (unsigned long long)flying, stalled);
}

/* A message that is late is sent late, not left out; its latency counts from when it was due. */
void run_opened(const struct options *options)
{
    struct load load = {0};
    struct samples latencies = {0};
    open_clients(&load, options, 1);
    drive(&load, options, options->warm_up, &latencies);
    begin_measuring();
    latencies.count = 0;
    uint64_t before = all_complete(&load);
    drive(&load, options, options->seconds, &latencies);
    end_measuring(all_complete(&load) - before, in_nanoseconds(options->seconds), &latencies);
    close_clients(&load);
}
