/* What a kernel must leave as it is in its process: signals, locale, directory, limits (Q8A8-ENV-6), and what it may
 * keep only once: descriptors, threads, memory (Q8A8-ENV-7, Q8A8-ENV-10). */
#ifndef Q8A8_HARNESS_STATE_H
#define Q8A8_HARNESS_STATE_H

#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>

enum { STATE_SIGNALS = 65, STATE_LIMITS = 7 };

struct state {
    sigset_t blocked;
    void (*handlers[STATE_SIGNALS])(int);
    int flags[STATE_SIGNALS];
    char locale[256], directory[PATH_MAX];
    mode_t umask;
    struct rlimit limits[STATE_LIMITS];
    cpu_set_t cpus;
    off_t output; /* bytes of standard output */
    long threads, descriptors;
};

/* Called for a difference: a slug, and the values before and after as text. */
typedef void state_note(void *context, const char *what, const char *detail);

void state_read(struct state *state);

/* Give the process a file mode mask, and this thread a locale, that no kernel takes for the usual ones. */
void state_make_unusual(void);

/* Report what differs from a state that was read before. */
void state_compare(const struct state *before, const struct state *after, state_note *note, void *context);

/* The bytes in use by malloc, in all threads' arenas; 0 if the C library does not report them. */
size_t state_allocated(void);

/* The bytes of address space in use. */
size_t state_mapped(void);

/* Direct standard output to a file in memory, so that what a kernel writes is seen; to standard error if there is no
 * such file. */
void state_take_output(void);

/* Copy what was written to standard output since the last time to standard error. */
void state_copy_output(void);

/* Allow only so many descriptors more than are open, until they are allowed again (-1). */
void state_limit_descriptors(int more);

#endif
