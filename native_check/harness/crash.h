/* Reports the place of a kernel's crash before the process ends by the same signal. */
#ifndef Q8A8_HARNESS_CRASH_H
#define Q8A8_HARNESS_CRASH_H

#include "memory.h"

/* Catch SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGTRAP: write one line to standard error, such as
 *   fault: SIGSEGV at vx + 34 (length 34) in ggml_vec_dot_q8_a8_q8_a8
 * and end the process by the signal, without a core file. */
void crash_install(void);

/* Set the name of the current function ("ggml_vec_dot_q8_a8_q8_a8"), and forget the regions of the last call. */
void crash_context(const char *what);

/* Add a region of the current call, relative to which a faulting address is reported. It must not move. */
void crash_watch(const struct region *region);

#endif
