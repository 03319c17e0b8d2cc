/* Frames: those that are sent, made and masked before the clock runs, and the check of those that come back. */

#include <stdlib.h>
#include <string.h>

#include "generator.h"

enum { TEXT = 0x1, CONTINUATION = 0x0, FINAL = 0x80, MASKED = 0x80 };

const unsigned char GOODBYE[8] = {FINAL | 0x8, MASKED | 2, 0, 0, 0, 0, 0x03, 0xe8};

/* The same numbers in every run: xorshift, of which nothing is asked but that messages differ. */
static uint32_t chance(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Write a head without a mask's bytes; returns its length. */
static size_t make_head(unsigned char *head, size_t size)
{
    unsigned more = size < 126 ? 0 : size < 1 << 16 ? 2 : 8;
    head[0] = FINAL | TEXT;
    head[1] = (unsigned char)(MASKED | (more == 0 ? size : more == 2 ? 126 : 127));
    for (unsigned index = 0; index < more; index++)
        head[2 + index] = (unsigned char)((uint64_t)size >> 8 * (more - 1 - index));
    return 2 + more;
}

void make_script(struct script *script, size_t size, size_t in_flight)
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 {}:,";
    unsigned char head[10], key[4];
    uint32_t state = 2463534242u ^ (uint32_t)size;
    size_t head_length = make_head(head, size);
    script->size = size;
    script->frame = head_length + sizeof key + size;
    script->payloads = allocate(DISTINCT, size ? size : 1);
    script->frames = allocate(DISTINCT + in_flight, script->frame);
    for (size_t index = 0; index < DISTINCT; index++) {
        unsigned char *payload = script->payloads + index * size, *frame = script->frames + index * script->frame;
        for (size_t place = 0; place < size; place++)
            payload[place] = (unsigned char)alphabet[chance(&state) % (sizeof alphabet - 1)];
        for (size_t place = 0; place < sizeof key; place++)
            key[place] = (unsigned char)(chance(&state) >> 24);
        memcpy(frame, head, head_length);
        memcpy(frame + head_length, key, sizeof key);
        for (size_t place = 0; place < size; place++)
            frame[head_length + sizeof key + place] = payload[place] ^ key[place % sizeof key];
    }
    for (size_t index = DISTINCT; index < DISTINCT + in_flight; index++)
        memcpy(script->frames + index * script->frame, script->frames + index % DISTINCT * script->frame, script->frame);
}

void free_script(struct script *script)
{
    free(script->payloads);
    free(script->frames);
}

static size_t whole_head(const struct reading *reading)
{
    unsigned length = reading->head_length < 2 ? 0 : reading->head[1] & 0x7f;
    return length < 126 ? 2 : length == 126 ? 4 : 10;
}

/* The head is here: see what it announces. Only a message of text, or a further part of it, may come, unmasked. */
static void begin_payload(struct reading *reading, const struct script *script)
{
    const unsigned char *head = reading->head;
    uint64_t length = head[1] & 0x7f;
    unsigned opcode = reading->in_message ? CONTINUATION : TEXT;
    if ((head[0] & ~(unsigned)FINAL) != opcode)
        fail_over(head, reading->head_length, "a frame that is no echo, after %llu messages",
                  (unsigned long long)reading->complete);
    if (length >= 126) {
        uint64_t least = length == 126 ? 126 : 1 << 16;
        length = 0;
        for (size_t index = 2; index < reading->head_length; index++)
            length = length << 8 | head[index];
        if (length < least)
            fail_over(head, reading->head_length, "a length in more bytes than it needs, after %llu messages",
                      (unsigned long long)reading->complete);
    }
    if (head[1] & MASKED || length > script->size - reading->position)
        fail_over(head, reading->head_length, "a wrong echo: the head of a frame is not of %zu bytes, after %llu messages",
                  script->size, (unsigned long long)reading->complete);
    reading->left = (size_t)length;
    reading->final = head[0] & FINAL;
    reading->in_message = reading->in_payload = true;
    reading->head_length = 0;
}

unsigned read_frames(struct reading *reading, const struct script *script, const unsigned char *data, size_t length)
{
    const unsigned char *end = data + length;
    unsigned complete = 0;
    while (data < end) {
        if (!reading->in_payload) {
            reading->head[reading->head_length++] = *data++;
            if (reading->head_length < 2 || reading->head_length < whole_head(reading))
                continue;
            begin_payload(reading, script);
        }
        size_t here = (size_t)(end - data), part = reading->left < here ? reading->left : here;
        const unsigned char *expected = script->payloads + reading->complete % DISTINCT * script->size + reading->position;
        if (memcmp(data, expected, part))
            fail_over(data, part, "a wrong echo after %llu messages and %zu bytes",
                      (unsigned long long)reading->complete, reading->position);
        data += part;
        reading->position += part;
        reading->left -= part;
        if (reading->left)
            break;
        reading->in_payload = false;
        if (!reading->final)
            continue;
        if (reading->position != script->size)
            fail("a wrong echo after %llu messages: it ends after %zu of %zu bytes", (unsigned long long)reading->complete,
                 reading->position, script->size);
        reading->in_message = false;
        reading->position = 0;
        reading->complete++;
        complete++;
    }
    return complete;
}
