/* Forces calls of several threads to overlap: some are paused in the middle of their input until others have made a
 * whole call.
 *
 *   an input of several pages           +--------+--------+--------+
 *                                       |  open  | closed | closed |
 *                                       +--------+--------+--------+
 *
 * The first access to a closed page faults; the handler waits for other threads' calls to end, then opens the page.
 * Shared state has been overwritten by another call by then, even on a single processor. */
#ifndef Q8A8_HARNESS_PAUSE_H
#define Q8A8_HARNESS_PAUSE_H

#include "memory.h"

/* The additional offset that puts a page border in the middle of a buffer; a multiple of 64. */
uint32_t pause_offset(size_t length, uint32_t offset);

/* Close an input's pages, except the first one. */
void pause_close(const struct region *input);

/* Open them all. */
void pause_end(void);

/* Record the end of a call in a thread that is never paused. */
void pause_tell(void);

/* For the fault handler: whether the address was in a closed page, so that the instruction can be retried. */
bool pause_fault(uintptr_t address);

#endif
