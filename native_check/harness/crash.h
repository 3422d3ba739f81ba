/* A kernel that crashes says where, then the process dies by the same signal. */
#ifndef Q8A8_HARNESS_CRASH_H
#define Q8A8_HARNESS_CRASH_H

#include "memory.h"

/* Catch SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGTRAP: write one line to standard error, such as
 *   fault: SIGSEGV at vx + 34 (length 34) in ggml_vec_dot_q8_a8_q8_a8
 * and let the signal take its course. No core files. */
void crash_install(void);

/* What runs now ("ggml_vec_dot_q8_a8_q8_a8"), and forget the regions of the last call. */
void crash_context(const char *what);

/* A region of the running call, which a faulting address may be in or beside. It must stay where it is. */
void crash_watch(const struct region *region);

#endif
