/* The command line, the clock, the result, and the end when something is wrong. */

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "generator.h"

enum { SHOWN = 80 /* bytes of what was wrong */ };

static nanoseconds spent_before;

static void say(const char *format, va_list arguments)
{
    fflush(stdout);
    vfprintf(stderr, format, arguments);
}

void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

void fail_over(const void *data, size_t length, const char *format, ...)
{
    const unsigned char *bytes = data;
    va_list arguments;
    va_start(arguments, format);
    say(format, arguments);
    va_end(arguments);
    fputs(": \"", stderr);
    for (size_t index = 0; index < length && index < SHOWN; index++) {
        if (bytes[index] >= ' ' && bytes[index] <= '~' && bytes[index] != '\\' && bytes[index] != '"')
            fputc(bytes[index], stderr);
        else
            fprintf(stderr, "\\x%02x", bytes[index]);
    }
    fputs("\"\n", stderr);
    exit(1);
}

void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (!memory)
        fail("no memory for %zu times %zu bytes", count, size);
    return memory;
}

nanoseconds now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (nanoseconds)time.tv_sec * SECOND + (nanoseconds)time.tv_nsec;
}

nanoseconds in_nanoseconds(double seconds)
{
    return (nanoseconds)(seconds * (double)SECOND);
}

void add_sample(struct samples *samples, nanoseconds value)
{
    if (samples->count == samples->room) {
        samples->room = samples->room ? 2 * samples->room : 1 << 16;
        samples->values = realloc(samples->values, samples->room * sizeof *samples->values);
        if (!samples->values)
            fail("no memory for %zu latencies", samples->room);
    }
    samples->values[samples->count++] = value;
}

/* CPU that this process has used so far. */
static nanoseconds spent(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (nanoseconds)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * SECOND +
           (nanoseconds)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

void begin_measuring(void)
{
    puts("measuring");
    fflush(stdout);
    spent_before = spent();
}

void end_measuring(uint64_t messages, nanoseconds elapsed, struct samples *latencies)
{
    nanoseconds used = spent() - spent_before;
    printf("{\"messages\": %llu, \"seconds\": %.9f, \"load seconds\": %.9f, \"latencies\": [",
           (unsigned long long)messages, (double)elapsed / (double)SECOND, (double)used / (double)SECOND);
    for (size_t index = 0; index < latencies->count; index++)
        printf(index ? ",%llu" : "%llu", (unsigned long long)latencies->values[index]);
    puts("]}");
    if (fflush(stdout))
        fail("the result could not be written: %s", strerror(errno));
    free(latencies->values);
    char ignored[256];
    while (read(STDIN_FILENO, ignored, sizeof ignored) > 0)
        ;
}

static long whole_number(const char *name, const char *text, long least)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < least || value > INT_MAX)
        fail("%s: expected a whole number from %ld, got '%s'", name, least, text);
    return value;
}

static double number(const char *name, const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= 0 && value < 1e9))
        fail("%s: expected a number from 0, got '%s'", name, text);
    return value;
}

/* Each argument is NAME=VALUE. Fails unless those in `wanted` are there, and only they; every name in it ends with a space.
 * `stalled` may be there. */
static void parse(struct options *options, const char *wanted, int count, char **arguments)
{
    const struct { const char *name; const char **text; long *whole; double *number; } known[] = {
        {"host", &options->host, NULL, NULL},
        {"path", &options->path, NULL, NULL},
        {"port", NULL, &options->port, NULL},
        {"size", NULL, &options->size, NULL},
        {"connections", NULL, &options->connections, NULL},
        {"in_flight", NULL, &options->in_flight, NULL},
        {"lanes", NULL, &options->lanes, NULL},
        {"echo", NULL, &options->echo, NULL},
        {"rate", NULL, NULL, &options->rate},
        {"seconds", NULL, NULL, &options->seconds},
        {"warm_up", NULL, NULL, &options->warm_up},
        {"stalled", NULL, NULL, &options->stalled},
    };
    for (size_t index = 0; index < sizeof known / sizeof *known; index++) {
        const char *name = known[index].name, *value = NULL;
        size_t length = strlen(name);
        for (int argument = 0; argument < count; argument++)
            if (!strncmp(arguments[argument], name, length) && arguments[argument][length] == '=')
                value = arguments[argument] + length + 1;
        const char *place = strstr(wanted, name);
        bool needed = place && place[length] == ' ' && (place == wanted || place[-1] == ' ');
        if (needed != (value != NULL) && known[index].number != &options->stalled)
            fail("%s is %s", name, needed ? "missing" : "not a parameter of this kind of load");
        if (!value)
            continue;
        if (known[index].text)
            *known[index].text = value;
        else if (known[index].whole)
            *known[index].whole = whole_number(name, value, known[index].whole == &options->echo ? 0 : 1);
        else
            *known[index].number = number(name, value);
    }
}

/* A connection is a descriptor, and there may be more of them than the usual limit. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (!getrlimit(RLIMIT_NOFILE, &limit)) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int count, char **arguments)
{
    static const struct { const char *name; void (*run)(const struct options *); const char *wanted; } kinds[] = {
        {"broadcast", run_broadcast, "host port path size connections in_flight seconds warm_up "},
        {"closed", run_closed, "host port path size connections in_flight seconds warm_up "},
        {"connects", run_connects, "host port path lanes echo seconds warm_up "},
        {"opened", run_opened, "host port path size connections rate seconds warm_up "},
    };
    struct options options = {0};
    signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    prctl(PR_SET_TIMERSLACK, 1000); /* nanoseconds, or all timers are 50 microseconds late */
    for (size_t index = 0; count > 1 && index < sizeof kinds / sizeof *kinds; index++)
        if (!strcmp(kinds[index].name, arguments[1])) {
            parse(&options, kinds[index].wanted, count - 2, arguments + 2);
            kinds[index].run(&options);
            return 0;
        }
    fail("usage: generator broadcast|closed|connects|opened NAME=VALUE...");
}
