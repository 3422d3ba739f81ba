/* Many more thread switches than the system makes by itself, so that calls of several threads interleave, on one
 * processor too. A system switches every few milliseconds; the short calls of a kernel are over by then. */
#ifndef Q8A8_HARNESS_PREEMPT_H
#define Q8A8_HARNESS_PREEMPT_H

/* From now on every thread that asked for it is put aside every few microseconds, wherever it is. */
void preempt_start(void);

/* For a thread: let it be put aside. */
void preempt_admit(void);

/* No more. */
void preempt_stop(void);

#endif
