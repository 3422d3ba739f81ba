/* Calls of several threads that surely overlap: some are put aside in the middle of their input, until others have
 * made a whole call.
 *
 *   an input of several pages           +--------+--------+--------+
 *                                       |  open  | closed | closed |
 *                                       +--------+--------+--------+
 *
 * The first touch of a closed page is a fault, whose handler waits for other threads' calls to end, then opens the
 * page. State that threads share has another call's values by then, on one processor too. */
#ifndef Q8A8_HARNESS_PAUSE_H
#define Q8A8_HARNESS_PAUSE_H

#include "memory.h"

/* So many bytes more of offset put a page's border in the middle of a buffer; a multiple of 64. */
uint32_t pause_offset(size_t length, uint32_t offset);

/* Close an input's pages, but for the first one. */
void pause_close(const struct region *input);

/* Open them all. */
void pause_end(void);

/* A call of a thread that is never put aside has ended. */
void pause_tell(void);

/* For the handler of faults: whether the address lies in a closed page, and the instruction may be tried again. */
bool pause_fault(uintptr_t address);

#endif
