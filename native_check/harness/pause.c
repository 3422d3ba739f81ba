#include "pause.h"

#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_CLOSED = 24,        /* pages; more would only take longer */
    CALLS = 3,              /* of two threads: one of them started after the pause */
    NAP_NS = 20 * 1000,
    NAPS = 150,             /* then continue: the kernel may hold a lock that the others wait for */
};

static struct {
    uint8_t *page;
    int access;
    atomic_bool open;
} closed[MAX_CLOSED];
static volatile size_t closed_count;
static size_t page_size;
static atomic_uint calls_ended;

uint32_t pause_offset(size_t length, uint32_t offset) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    /* half of it, and in the middle of a block of floats */
    const size_t border = length / 2 / 128 * 128 + 64;
    return (uint32_t)((2 * page - (region_margin() + offset / 64 * 64 + border) % page) % page);
}

void pause_close(const struct region *input) {
    page_size = input->page;
    const uint8_t *end = input->start + input->length;
    for (uint8_t *page = input->data + page_size; page < end && closed_count < MAX_CLOSED; page += page_size) {
        closed[closed_count].page = page;
        closed[closed_count].access = input->readonly ? PROT_READ : PROT_READ | PROT_WRITE;
        atomic_store(&closed[closed_count].open, mprotect(page, page_size, PROT_NONE) != 0);
        closed_count = closed_count + 1;
    }
}

void pause_end(void) {
    for (size_t i = 0; i < closed_count; ++i) {
        (void)mprotect(closed[i].page, page_size, closed[i].access);
    }
    closed_count = 0;
}

void pause_tell(void) {
    atomic_fetch_add(&calls_ended, 1);
}

bool pause_fault(uintptr_t address) {
    /* A second fault in the same page is not caused by its being closed: it is the kernel's. */
    static _Thread_local size_t let_in[MAX_CLOSED];
    const struct timespec nap = {0, NAP_NS};

    for (size_t i = 0; i < closed_count; ++i) {
        const uintptr_t page = (uintptr_t)closed[i].page;
        if (address < page || address >= page + page_size || let_in[i] != 0) {
            continue;
        }
        let_in[i] = 1;
        const unsigned before = atomic_load(&calls_ended);
        for (int n = 0; n < NAPS && !atomic_load(&closed[i].open) && atomic_load(&calls_ended) - before < CALLS; ++n) {
            nanosleep(&nap, NULL);
        }
        atomic_store(&closed[i].open, mprotect(closed[i].page, page_size, closed[i].access) == 0);
        return true;
    }
    return false;
}
