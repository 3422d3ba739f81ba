/* Calls of several threads that are in progress at the same time.
 *
 * In a *round* one thread is stopped in the middle of its call (stop.h), each other one then makes a whole call, and
 * the stopped one goes on. What a call keeps in memory that others write is overwritten by then, however few processors
 * there are and whatever else they do. After the rounds all threads call freely, one call after another.
 *
 * A kernel may take a lock in its calls: the others then wait for the stopped thread, which is let go on once all of
 * them sleep, or have computed for much longer than a call takes. */
#ifndef Q8A8_HARNESS_TOGETHER_H
#define Q8A8_HARNESS_TOGETHER_H

#include "caller.h"

struct together {
    struct caller *callers; /* placed; one more than there are threads */
    unsigned threads;
    uint32_t repeat;      /* calls of each thread, unless there is a time */
    unsigned milliseconds; /* least time of the rounds, and of the free calls; 0: as many calls as `repeat` */
    bool first;           /* a process's first calls: one round, stopped by time */
    uint64_t delay_ns;    /* of the first call's stop; 0: all threads start at once */
    bool by_time;         /* no call is stopped at a closed page */
    uint64_t overlap_ns;  /* result: the time in which at least two calls were in progress */
    uint32_t stops;       /* result: how many calls were stopped while others were made */
};

/* Make the calls. Returns the reason why not, or NULL. */
const char *together_run(struct together *together);

#endif
