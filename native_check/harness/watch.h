/* Watches the calls of one request besides their results: the calling convention in all of them, and with STATE the
 * process, the stack and what is kept (Q8A8-ENV-5 to Q8A8-ENV-10). */
#ifndef Q8A8_HARNESS_WATCH_H
#define Q8A8_HARNESS_WATCH_H

#include "protocol.h"

enum { WATCH_TEXT = 300 };

/* Before the first call: later states are compared with the present one. */
void watch_install(void);

/* Before the calls. */
void watch_begin(const struct call *call);

/* Make one of them. Returns the fault, or 0, and a text about it. */
uint32_t watch_call(const struct call *call, abi_pointer *function, void *const *buffers, char text[WATCH_TEXT]);

/* After the calls. Returns the faults, and a text about them. */
uint32_t watch_end(const struct call *call, char text[WATCH_TEXT]);

#endif
