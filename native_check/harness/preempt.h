/* Frequent preemption, so that the calls of several threads interleave, even on a single processor. The system
 * switches threads every few milliseconds, when the short calls of a kernel have already ended. */
#ifndef Q8A8_HARNESS_PREEMPT_H
#define Q8A8_HARNESS_PREEMPT_H

/* Start to preempt every admitted thread every few microseconds. */
void preempt_start(void);

/* Admit the calling thread. */
void preempt_admit(void);

/* Stop preempting. */
void preempt_stop(void);

#endif
