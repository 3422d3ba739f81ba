#include "bytes.h"
#include "exit.h"

#include <stdlib.h>
#include <string.h>

const uint8_t *cursor_bytes(struct cursor *cursor, size_t length) {
    if (cursor->spent || length > cursor->left) {
        cursor->spent = true;
        return NULL;
    }
    const uint8_t *bytes = cursor->at;
    cursor->at += length;
    cursor->left -= length;
    return bytes;
}

static uint64_t cursor_unsigned(struct cursor *cursor, size_t size) {
    const uint8_t *bytes = cursor_bytes(cursor, size);
    uint64_t value = 0;
    for (size_t i = 0; bytes != NULL && i < size; ++i) {
        value |= (uint64_t)bytes[i] << 8 * i;
    }
    return value;
}

uint8_t cursor_u8(struct cursor *cursor) {
    return (uint8_t)cursor_unsigned(cursor, 1);
}

uint32_t cursor_u32(struct cursor *cursor) {
    return (uint32_t)cursor_unsigned(cursor, 4);
}

int64_t cursor_i64(struct cursor *cursor) {
    return (int64_t)cursor_unsigned(cursor, 8);
}

void bytes_reserve(struct bytes *bytes, size_t capacity) {
    if (capacity <= bytes->capacity) {
        return;
    }
    const size_t grown = capacity > 2 * bytes->capacity ? capacity : 2 * bytes->capacity;
    uint8_t *data = realloc(bytes->data, grown);
    if (data == NULL) {
        fail("out of memory (%zu bytes)", grown);
    }
    bytes->data = data;
    bytes->capacity = grown;
}

void bytes_put(struct bytes *bytes, const void *data, size_t length) {
    if (length == 0) {
        return;
    }
    bytes_reserve(bytes, bytes->length + length);
    memcpy(bytes->data + bytes->length, data, length);
    bytes->length += length;
}

void bytes_put_u8(struct bytes *bytes, uint8_t value) {
    bytes_put(bytes, &value, 1);
}

void bytes_put_u32(struct bytes *bytes, uint32_t value) {
    const uint8_t data[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16), (uint8_t)(value >> 24)};
    bytes_put(bytes, data, sizeof data);
}

void bytes_put_text(struct bytes *bytes, const char *text) {
    bytes_put(bytes, text, strlen(text));
}

void bytes_reorder(uint8_t *data, size_t length, size_t number) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    for (size_t first = 0; first + number <= length; first += number) {
        for (size_t low = first, high = first + number - 1; low < high; ++low, --high) {
            const uint8_t byte = data[low];
            data[low] = data[high];
            data[high] = byte;
        }
    }
#else
    (void)data;
    (void)length;
    (void)number;
#endif
}
