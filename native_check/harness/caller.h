/* The calls of one thread, with the checks around each. */
#ifndef Q8A8_HARNESS_CALLER_H
#define Q8A8_HARNESS_CALLER_H

#include "memory.h"
#include "protocol.h"
#include "target.h"

enum { MAX_SPANS = 1 << 15 };

/* The time of one call, in nanoseconds. */
struct span {
    uint64_t start, end;
};

struct caller {
    const struct target *target;
    const struct call *call;
    bool zeros;        /* the inputs are zeros instead of the call's bytes */
    bool concurrent;   /* other threads call too */
    struct region regions[ABI_MAX_BUFFERS]; /* reused from call to call */
    void *buffers[ABI_MAX_BUFFERS];         /* the function's arguments */
    struct bytes first;                     /* the outputs of the first call, one after another */
    uint32_t calls, faults;
    char detail[300];
    size_t span_count;
    struct span spans[MAX_SPANS]; /* of the first calls */
};

const struct abi_buffer *buffer_of(const struct call *call, size_t i);
size_t buffer_count(const struct call *call);

/* Begin a call without results; its buffers are not placed yet. */
void caller_begin(struct caller *caller, const struct target *target, const struct call *call, bool zeros,
                  bool concurrent);

/* Place a buffer and fill it. Returns the reason for a refusal, or NULL. */
const char *caller_place(struct caller *caller, size_t i, uint32_t offset);

/* With SHARED_INPUTS: place all inputs in one region, the first input's, as far apart as their offsets are. Returns the
 * reason for a refusal, or NULL. */
const char *caller_share_inputs(struct caller *caller);

/* The bytes of a buffer that one call is made on: with ROWS a part of them. */
size_t part_of(const struct call *call, size_t i);

/* Make the call once, or with ROWS once on each part of the buffers; with a delay (in nanoseconds) it stops in the middle, see stop.h. */
void caller_call(struct caller *caller, uint64_t stop_delay);

/* Make the call once more, with another precision of what no result depends on, whatever it gives. */
void caller_call_imprecisely(struct caller *caller);

/* Compare the inputs and the memory around the buffers with what they were before the calls. */
void caller_check_memory(struct caller *caller);

/* Record a fault; the text of the first one is kept. */
void caller_note(struct caller *caller, uint32_t fault, const char *text);

uint64_t now_ns(void);

#endif
