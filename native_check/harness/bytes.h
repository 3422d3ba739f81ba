/* Reading and writing little-endian integers in byte strings, with checked lengths. */
#ifndef Q8A8_HARNESS_BYTES_H
#define Q8A8_HARNESS_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads from bytes owned by the caller. Past the end every read returns zeros and sets `spent`. */
struct cursor {
    const uint8_t *at;
    size_t left;
    bool spent;
};

uint8_t cursor_u8(struct cursor *cursor);
uint32_t cursor_u32(struct cursor *cursor);
int64_t cursor_i64(struct cursor *cursor);
const uint8_t *cursor_bytes(struct cursor *cursor, size_t length); /* NULL past the end */

/* A growing byte string; running out of memory ends the program (status 2). */
struct bytes {
    uint8_t *data;
    size_t length, capacity;
};

void bytes_reserve(struct bytes *bytes, size_t capacity);
void bytes_put(struct bytes *bytes, const void *data, size_t length);
void bytes_put_u8(struct bytes *bytes, uint8_t value);
void bytes_put_u32(struct bytes *bytes, uint32_t value);
/* Turn numbers of so many bytes each from little-endian to this machine's order, or back. */
void bytes_reorder(uint8_t *data, size_t length, size_t number);

void bytes_put_text(struct bytes *bytes, const char *text); /* without a length or a final zero */

#endif
