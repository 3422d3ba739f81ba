/* Where a kernel's buffers live: whole pages between two inaccessible ones, filled with canary bytes.
 *
 *   +---------+--------------------------------------------+---------+
 *   | no      | A5 A5 A5 A5 [ buffer, length bytes ] A5 A5 | no      |
 *   | access  |                                            | access  |
 *   +---------+--------------------------------------------+---------+
 *             ^ data                      data + data_size ^
 *
 * With GUARD_AFTER the buffer ends where the pages end, with GUARD_BEFORE it begins where they begin
 * (Q8A8-MEM-1, Q8A8-MEM-2). */
#ifndef Q8A8_HARNESS_MEMORY_H
#define Q8A8_HARNESS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CANARY = 0xA5 };

/* Zero-initialized it owns no pages. It keeps its pages from call to call, because system calls are what an
 * emulator is slowest at. */
struct region {
    const char *name;
    uint8_t *data;
    size_t data_size, page;
    bool readonly;
    uint8_t *start; /* of the buffer */
    size_t length;
};

/* The bytes of canaries before a buffer without a guard page beside it, but for its offset. */
size_t region_margin(void);

/* The bytes of pages that a buffer takes at most. */
size_t region_cost(size_t length, uint32_t offset);

/* Lay out a writable buffer of that length, canaries all around. False when there is no memory. */
bool region_place(struct region *region, const char *name, size_t length, uint32_t offset, unsigned options);

/* Let nobody write to it, until it is placed again. */
void region_protect(struct region *region);

/* Whether every canary is as it was; if not, *where is a changed byte's offset from the buffer's start. */
bool region_intact(const struct region *region, ptrdiff_t *where);

#endif
