#include "protocol.h"
#include "exit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { EXTENSION = 4 }; /* bytes of a call's extension, without the other call */

/* Read up to length bytes; fewer only at the end of input. */
static size_t read_fully(int fd, uint8_t *data, size_t length) {
    size_t done = 0;
    while (done < length) {
        const ssize_t got = read(fd, data + done, length - done);
        if (got == 0) {
            break;
        }
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            fail("cannot read standard input: %s", strerror(errno));
        }
        done += (size_t)got;
    }
    return done;
}

bool protocol_read(int fd, struct bytes *payload) {
    uint8_t head[4];
    const size_t got = read_fully(fd, head, sizeof head);
    if (got == 0) {
        return false;
    }
    if (got < sizeof head) {
        fail("broken stream: input ends inside a frame's length");
    }
    struct cursor cursor = {head, sizeof head, false};
    const uint32_t length = cursor_u32(&cursor);
    if (length < 1 || length > MAX_FRAME) {
        fail("broken stream: a frame of %lu bytes (expected 1 to %d)", (unsigned long)length, (int)MAX_FRAME);
    }
    /* Memory is allocated for the bytes that arrive, not for the claimed length. */
    payload->length = 0;
    while (payload->length < length) {
        const size_t rest = length - payload->length;
        const size_t step = rest < (1u << 20) ? rest : (1u << 20);
        bytes_reserve(payload, payload->length + step);
        if (read_fully(fd, payload->data + payload->length, step) < step) {
            fail("broken stream: input ends inside a frame of %lu bytes", (unsigned long)length);
        }
        payload->length += step;
    }
    return true;
}

static void write_fully(int fd, const uint8_t *data, size_t length) {
    while (length > 0) {
        const ssize_t put = write(fd, data, length);
        if (put < 0) {
            if (errno == EINTR) {
                continue;
            }
            fail("cannot write standard output: %s", strerror(errno));
        }
        data += put;
        length -= (size_t)put;
    }
}

void protocol_write(int fd, const struct bytes *payload) {
    static struct bytes frame; /* length and payload in one write */
    frame.length = 0;
    bytes_put_u32(&frame, (uint32_t)payload->length);
    bytes_put(&frame, payload->data, payload->length);
    write_fully(fd, frame.data, frame.length);
}

/* Read one call's fields and buffers. */
static const char *parse_body(struct cursor *cursor, struct call *call) {
    static char why[120];
    *call = (struct call){.id = cursor_u32(cursor)};
    call->number = cursor_u8(cursor);
    call->options = cursor_u8(cursor);
    call->threads = cursor_u8(cursor);
    call->options |= (unsigned)cursor_u8(cursor) << 8;
    call->repeat = cursor_u32(cursor);
    call->integers.n = cursor_i64(cursor);
    call->integers.bs = cursor_i64(cursor);
    call->integers.bx = cursor_i64(cursor);
    call->integers.by = cursor_i64(cursor);
    call->integers.nrc = cursor_i64(cursor);
    const unsigned buffer_count = cursor_u8(cursor);
    if (cursor->spent) {
        return "the call is truncated";
    }
    if (call->number >= ABI_FUNCTIONS) {
        snprintf(why, sizeof why, "no function has the number %u", call->number);
        return why;
    }
    if (call->threads < 1 || call->threads > MAX_THREADS || call->repeat < 1) {
        return "expected threads 1 to 16 and repeat at least 1";
    }
    if ((call->options & OPTION_GUARD_AFTER) && (call->options & OPTION_GUARD_BEFORE)) {
        return "GUARD_AFTER and GUARD_BEFORE exclude each other";
    }
    if ((call->options & OPTION_SHARED_INPUTS) && call->threads > 1) {
        return "SHARED_INPUTS goes with one thread";
    }
    if ((call->options & OPTION_ROWS) && call->threads > 1) {
        return "ROWS goes with one thread";
    }
    const struct abi_function *function = &abi_functions[call->number];
    if (buffer_count != function->buffer_count) {
        snprintf(why, sizeof why, "%s has %zu buffers, the call %u", function->name, function->buffer_count,
                 buffer_count);
        return why;
    }
    for (size_t i = 0; i < buffer_count; ++i) {
        struct call_buffer *buffer = &call->buffers[i];
        buffer->length = cursor_u32(cursor);
        buffer->offset = cursor_u32(cursor);
        buffer->bytes = cursor_bytes(cursor, buffer->length);
        if (cursor->spent) {
            snprintf(why, sizeof why, "buffer %s is truncated", function->buffers[i].name);
            return why;
        }
        if (buffer->offset > MAX_OFFSET) {
            snprintf(why, sizeof why, "buffer %s: expected an offset of at most %d", function->buffers[i].name, (int)MAX_OFFSET);
            return why;
        }
    }
    return NULL;
}

/* Floats and scales are little-endian in the frame: turn them to this machine's order, in place. */
static void reorder(const struct bytes *payload, const struct call *call) {
    for (size_t i = 0; i < abi_functions[call->number].buffer_count; ++i) {
        const struct call_buffer *buffer = &call->buffers[i];
        bytes_reorder(payload->data + (buffer->bytes - payload->data), buffer->length,
                      abi_functions[call->number].buffers[i].number);
    }
}

const char *protocol_parse_call(const struct bytes *payload, struct call *call) {
    static char why[120];
    static struct call other;
    struct cursor cursor = {payload->data, payload->length, false};
    (void)cursor_u8(&cursor); /* the kind */

    const char *refusal = parse_body(&cursor, call);
    if (refusal != NULL) {
        return refusal;
    }
    if (cursor.left >= EXTENSION) {
        call->extended = true;
        call->milliseconds = cursor_u8(&cursor);
        call->milliseconds |= (unsigned)cursor_u8(&cursor) << 8;
        call->fresh = cursor_u8(&cursor);
        if (cursor_u8(&cursor) != 0) {
            refusal = parse_body(&cursor, &other);
            call->other = &other;
        }
    }
    if (refusal == NULL && cursor.left != 0) {
        snprintf(why, sizeof why, "%zu bytes after the last buffer", cursor.left);
        return why;
    }
    if (refusal == NULL) {
        reorder(payload, call);
    }
    if (refusal == NULL && call->other != NULL) {
        reorder(payload, call->other);
    }
    return refusal;
}
