#include "caller.h"
#include "crash.h"
#include "fpenv.h"
#include "stop.h"
#include "watch.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

const struct abi_buffer *buffer_of(const struct call *call, size_t i) {
    return &abi_functions[call->number].buffers[i];
}

size_t buffer_count(const struct call *call) {
    return abi_functions[call->number].buffer_count;
}

size_t part_of(const struct call *call, size_t i) {
    return call->options & OPTION_ROWS ? call->buffers[i].length / call->repeat : call->buffers[i].length;
}

uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void caller_note(struct caller *caller, uint32_t fault, const char *text) {
    caller->faults |= fault;
    if (caller->detail[0] == '\0') {
        snprintf(caller->detail, sizeof caller->detail, "%s", text);
    }
}

void caller_begin(struct caller *caller, const struct target *target, const struct call *call, bool zeros,
                  bool concurrent) {
    caller->target = target;
    caller->call = call;
    caller->zeros = zeros;
    caller->concurrent = concurrent;
    caller->first.length = 0;
    caller->calls = 0;
    caller->faults = 0;
    caller->detail[0] = '\0';
    caller->span_count = 0;
}

/* By its offset, or with GUARD_AFTER by its length: a kernel may require this alignment (Q8A8-MEM-4). */
static const char *misaligned(const struct call *call, size_t i) {
    static char why[100];
    snprintf(why, sizeof why, "buffer %s would not be aligned to %u bytes", buffer_of(call, i)->name,
             buffer_of(call, i)->alignment);
    return why;
}

/* The bytes of an input, NULL for zeros. */
static const uint8_t *input_bytes(const struct caller *caller, size_t i) {
    return caller->zeros ? NULL : caller->call->buffers[i].bytes;
}

static void fill_input(struct region *region, const uint8_t *bytes, unsigned options) {
    if (region->length != 0 && bytes != NULL) {
        memcpy(region->start, bytes, region->length);
    } else {
        memset(region->start, 0, region->length);
    }
    if (options & OPTION_READONLY) {
        region_protect(region);
    }
}

const char *caller_place(struct caller *caller, size_t i, uint32_t offset) {
    const struct call *call = caller->call;
    struct region *region = &caller->regions[i];
    if (!region_place(region, buffer_of(call, i)->name, call->buffers[i].length, offset, call->options)) {
        return "no memory for the buffers";
    }
    if ((uintptr_t)region->start % buffer_of(call, i)->alignment != 0) {
        return misaligned(call, i);
    }
    if (!buffer_of(call, i)->output) {
        fill_input(region, input_bytes(caller, i), call->options);
    }
    caller->buffers[i] = region->start;
    return NULL;
}

const char *caller_share_inputs(struct caller *caller) {
    const struct call *call = caller->call;
    uint64_t begin = UINT64_MAX, end = 0;
    struct region *region = NULL;
    for (size_t i = 0; i < buffer_count(call); ++i) {
        const struct call_buffer *buffer = &call->buffers[i];
        if (!buffer_of(call, i)->output) {
            region = region == NULL ? &caller->regions[i] : region;
            begin = buffer->offset < begin ? buffer->offset : begin;
            end = buffer->offset + (uint64_t)buffer->length > end ? buffer->offset + (uint64_t)buffer->length : end;
        }
    }
    if (!region_place(region, "inputs", (size_t)(end - begin), (uint32_t)begin, call->options)) {
        return "no memory for the buffers";
    }
    for (size_t i = 0; i < buffer_count(call); ++i) {
        const struct call_buffer *buffer = &call->buffers[i];
        if (!buffer_of(call, i)->output) {
            uint8_t *start = region->start + (buffer->offset - begin);
            caller->buffers[i] = start;
            if (buffer->length != 0) {
                memcpy(start, buffer->bytes, buffer->length);
            }
            if ((uintptr_t)start % buffer_of(call, i)->alignment != 0) {
                return misaligned(call, i);
            }
        }
    }
    for (size_t i = 0; i < buffer_count(call); ++i) {
        const struct call_buffer *buffer = &call->buffers[i];
        if (!buffer_of(call, i)->output && buffer->length != 0 &&
            memcmp(caller->buffers[i], buffer->bytes, buffer->length) != 0) {
            return "SHARED_INPUTS: the inputs differ where they overlap";
        }
    }
    if (call->options & OPTION_READONLY) {
        region_protect(region);
    }
    crash_watch(region);
    return NULL;
}

static void set_outputs(struct caller *caller) {
    for (size_t i = 0; i < buffer_count(caller->call); ++i) {
        if (buffer_of(caller->call, i)->output && caller->call->buffers[i].length != 0) {
            memcpy(caller->regions[i].start, caller->call->buffers[i].bytes, caller->call->buffers[i].length);
        }
    }
}

/* Keep the outputs of the first call; compare those of later ones (Q8A8-ENV-2; with several threads, Q8A8-ENV-3). */
static void check_outputs(struct caller *caller) {
    size_t at = 0;
    for (size_t i = 0; i < buffer_count(caller->call); ++i) {
        const struct region *region = &caller->regions[i];
        if (!buffer_of(caller->call, i)->output || region->length == 0) {
            continue;
        }
        if (caller->calls == 0) {
            bytes_put(&caller->first, region->start, region->length);
        } else if (memcmp(caller->first.data + at, region->start, region->length) != 0) {
            char text[120];
            if (caller->concurrent) {
                snprintf(text, sizeof text, "%s of %s differs in call %lu of a thread", region->name,
                         abi_functions[caller->call->number].name, (unsigned long)caller->calls + 1);
            } else {
                snprintf(text, sizeof text, "%s differs in call %lu of %lu", region->name,
                         (unsigned long)caller->calls + 1, (unsigned long)caller->call->repeat);
            }
            caller_note(caller, caller->concurrent ? FAULT_THREAD_RESULT_VARIES : FAULT_RESULT_VARIES, text);
        }
        at += region->length;
    }
    ++caller->calls;
}

static void invoke(struct caller *caller, uint64_t stop_delay) {
    const struct call *call = caller->call;
    struct span span = {.start = now_ns()};
    stop_enter(stop_delay);
    char text[WATCH_TEXT];
    const uint32_t broken = watch_call(call, caller->target->functions[call->number], caller->buffers, text);
    stop_leave(stop_delay);
    span.end = now_ns();
    if (caller->span_count < MAX_SPANS) {
        caller->spans[caller->span_count++] = span;
    }
    if (broken != 0) {
        caller_note(caller, broken, text);
    }
}

static void invoke_parts(struct caller *caller, uint64_t stop_delay) {
    const struct call *call = caller->call;
    void *whole[ABI_MAX_BUFFERS];
    memcpy(whole, caller->buffers, sizeof whole);
    const uint32_t parts = call->options & OPTION_ROWS ? call->repeat : 1;
    for (uint32_t part = 0; part < parts; ++part) {
        for (size_t i = 0; i < buffer_count(call); ++i) {
            caller->buffers[i] = (uint8_t *)whole[i] + part * part_of(call, i);
        }
        invoke(caller, stop_delay);
    }
    memcpy(caller->buffers, whole, sizeof whole);
}

/* Make the call in a floating-point environment, and compare that afterwards. */
static void call_with(struct caller *caller, struct fpenv found, struct fpenv wanted, uint64_t stop_delay) {
    set_outputs(caller);
    if (wanted.control != found.control || wanted.other != found.other) {
        fpenv_write(wanted);
    }
    const struct fpenv before = fpenv_read(); /* a bit that this CPU lacks stays 0 */
    invoke_parts(caller, stop_delay);
    const struct fpenv after = fpenv_read();
    fpenv_write(found);
    char text[160] = "";
    const uint32_t faults = fpenv_compare(before, after, text, sizeof text);
    if (faults != 0) {
        caller_note(caller, faults, text);
    }
}

void caller_call(struct caller *caller, uint64_t stop_delay) {
    const bool flush = caller->call->options & OPTION_FLUSH;
    const struct fpenv found = fpenv_read();
    call_with(caller, found, flush ? fpenv_flushing(found, caller->calls) : found, stop_delay);
    check_outputs(caller);
}

void caller_call_imprecisely(struct caller *caller) {
    const struct fpenv found = fpenv_read();
    call_with(caller, found, fpenv_imprecise(found), 0);
}

static void check_memory(struct caller *caller, const struct region *region) {
    ptrdiff_t where;
    if (!region_intact(region, &where)) {
        char text[120];
        snprintf(text, sizeof text, "a byte at %s %c %td was written (length %zu)", region->name,
                 where < 0 ? '-' : '+', where < 0 ? -where : where, region->length);
        caller_note(caller, FAULT_WROTE_OUTSIDE, text);
    }
}

/* Whether an input holds these bytes, or zeros for NULL. */
static bool unchanged(const uint8_t *start, size_t length, const uint8_t *bytes) {
    for (size_t i = 0; i < length; ++i) {
        if (start[i] != (bytes != NULL ? bytes[i] : 0)) {
            return false;
        }
    }
    return true;
}

void caller_check_memory(struct caller *caller) {
    const struct call *call = caller->call;
    bool shared = false; /* whether the canaries around this input were checked with another one's */
    for (size_t i = 0; i < buffer_count(call); ++i) {
        const bool output = buffer_of(call, i)->output;
        if (output || !shared) {
            check_memory(caller, &caller->regions[i]);
        }
        if (!output) {
            shared = call->options & OPTION_SHARED_INPUTS;
            if (!unchanged(caller->buffers[i], call->buffers[i].length, input_bytes(caller, i))) {
                char text[80];
                snprintf(text, sizeof text, "the input %s was written", buffer_of(call, i)->name);
                caller_note(caller, FAULT_INPUT_WRITTEN, text);
            }
        }
    }
}
