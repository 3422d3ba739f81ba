/* Memory for a kernel's buffers: whole pages between two inaccessible ones, filled with canary bytes.
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

/* Zero-initialized it owns no pages. Pages are reused from call to call, because system calls are slow in an
 * emulator. */
struct region {
    const char *name;
    uint8_t *data;
    size_t data_size, page;
    bool readonly;
    uint8_t *start; /* of the buffer */
    size_t length;
};

/* The canary bytes before a buffer without an adjacent guard page, without its offset. */
size_t region_margin(void);

/* The most bytes of pages for a buffer. */
size_t region_cost(size_t length, uint32_t offset);

/* Place a writable buffer of that length among canaries; false if there is not enough memory. */
bool region_place(struct region *region, const char *name, size_t length, uint32_t offset, unsigned options);

/* Make it read-only until it is placed again. */
void region_protect(struct region *region);

/* Whether every canary is unchanged; if not, *where is the offset of a changed byte from the buffer's start. */
bool region_intact(const struct region *region, ptrdiff_t *where);

#endif
