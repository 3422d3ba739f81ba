/* Stops a thread in the middle of its call, until the main thread lets it go on.
 *
 * The place is the first access to a closed page, which faults,
 *
 *   a buffer of the call           +--------+--------+
 *                                  |  open  | closed |
 *                                  +--------+--------+
 *
 * or the moment at which a timer runs out. Either way the signal's handler waits: the call is in progress for as long
 * as the other threads need for theirs, on any number of processors and however busy they are. */
#ifndef Q8A8_HARNESS_STOP_H
#define Q8A8_HARNESS_STOP_H

#include "memory.h"

/* Install the timer's handler; once, before any thread starts. */
void stop_install(void);

/* Begin a round, in the main thread: its stops end with `stop_release`. */
void stop_begin(void);

/* Close the page at an address of a buffer, for the round that has begun. */
void stop_close(const struct region *region, size_t place);

/* In the thread to be stopped, around its call: it stops after the delay. With 0 no timer is set. */
void stop_enter(uint64_t delay_ns);
void stop_leave(uint64_t delay_ns);

/* Whether a thread is stopped, or was in this round. */
bool stop_reached(void);

/* Open the page and let the thread go on. */
void stop_release(void);

/* For the fault handler: whether the address was in the closed page, so that the instruction can be retried. */
bool stop_at_fault(uintptr_t address);

/* Wait until a thread stops or `stop_tell` is called, for at most a millisecond. */
void stop_wait(void);
void stop_tell(void);

#endif
