/* Calls through assembly that checks the calling convention (Q8A8-ENV-5) and can measure the stack (Q8A8-ENV-8). */
#ifndef Q8A8_HARNESS_CONVENTION_H
#define Q8A8_HARNESS_CONVENTION_H

#include "abi.h"

enum { STACK_BUDGET = 6 << 20 };

/* Whether this processor's convention is known; if not, convention_call may not be used. */
bool convention_known(void);

/* Call the function with these words as arguments; on the stack that ends at `stack`, or on the current one for NULL.
 * Writes what the call left changed to `text`, an empty string for nothing. */
void convention_call(abi_pointer *function, const uint64_t words[ABI_WORDS], void *stack, char *text, size_t size);

/* A stack of 64 MiB whose pages are not in use yet: its end, or NULL without memory. There is one; not for threads. */
void *convention_stack(void);

/* The bytes of it that were used since. */
size_t convention_stack_used(void);

#endif
