#include "memory.h"
#include "exit.h"
#include "protocol.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Canary bytes on either side of a buffer without an adjacent guard page: a multiple of 64, for alignment, and more
 * than a block of floats, so that a kernel that writes a block too many is reported and does not crash. */
enum { MARGIN = 256 };

static size_t page_size(void) {
    static size_t size;
    if (size == 0) {
        size = (size_t)sysconf(_SC_PAGESIZE);
    }
    return size;
}

size_t region_margin(void) {
    return MARGIN;
}

size_t region_cost(size_t length, uint32_t offset) {
    const size_t page = page_size();
    return (MARGIN + offset + length + MARGIN + page - 1) / page * page;
}

static void set_access(struct region *region, int access) {
    if (mprotect(region->data, region->data_size, access) != 0) {
        fail("mprotect: %s", strerror(errno));
    }
    region->readonly = access == PROT_READ;
}

static bool map_pages(struct region *region, size_t data_size) {
    const size_t page = page_size();
    if (region->data != NULL) {
        munmap(region->data - region->page, region->data_size + 2 * region->page);
        *region = (struct region){0};
    }
    uint8_t *map = mmap(NULL, data_size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        return false;
    }
    region->data = map + page;
    region->data_size = data_size;
    region->page = page;
    set_access(region, PROT_READ | PROT_WRITE);
    return true;
}

bool region_place(struct region *region, const char *name, size_t length, uint32_t offset, unsigned options) {
    const size_t cost = region_cost(length, offset);
    /* Filling canaries takes time, so pages are reused only if at most four times as many as needed. */
    if (region->data == NULL || region->data_size < cost || region->data_size > 4 * cost) {
        if (!map_pages(region, cost)) {
            return false;
        }
    } else if (region->readonly) {
        set_access(region, PROT_READ | PROT_WRITE);
    }
    region->name = name;
    region->length = length;
    if (options & OPTION_GUARD_AFTER) {
        region->start = region->data + region->data_size - length;
    } else if (options & OPTION_GUARD_BEFORE) {
        region->start = region->data;
    } else {
        region->start = region->data + MARGIN + offset;
    }
    memset(region->data, CANARY, region->data_size);
    return true;
}

void region_protect(struct region *region) {
    set_access(region, PROT_READ);
}

/* The first byte in [from, to) that is not a canary, or NULL. */
static const uint8_t *damage(const uint8_t *from, const uint8_t *to) {
    for (; from < to; ++from) {
        if (*from != CANARY) {
            return from;
        }
    }
    return NULL;
}

bool region_intact(const struct region *region, ptrdiff_t *where) {
    /* after the buffer first, where overruns are most frequent */
    const uint8_t *found = damage(region->start + region->length, region->data + region->data_size);
    if (found == NULL) {
        found = damage(region->data, region->start);
    }
    if (found == NULL) {
        return true;
    }
    *where = found - region->start;
    return false;
}
