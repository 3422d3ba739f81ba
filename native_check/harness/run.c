#include "run.h"
#include "crash.h"
#include "fpenv.h"
#include "memory.h"
#include "pause.h"
#include "preempt.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { MAX_MEMORY = 1 << 30 }; /* bytes of pages for one call */

/* The calls of one thread. */
struct caller {
    const struct target *target;
    const struct call *call;
    pthread_barrier_t *barrier; /* NULL for a call without threads */
    struct region outputs[ABI_MAX_BUFFERS];
    void *buffers[ABI_MAX_BUFFERS]; /* the function's arguments */
    struct bytes first;             /* the outputs of the first call, one after another */
    uint32_t faults;
    char detail[200];
};

/* Their pages are reused from call to call. */
static struct region inputs[ABI_MAX_BUFFERS];
static struct region zeros[ABI_MAX_BUFFERS]; /* inputs for every second thread, see input_of */
static struct caller callers[MAX_THREADS];

static const struct abi_buffer *buffer_of(const struct call *call, size_t i) {
    return &abi_functions[call->number].buffers[i];
}

static size_t buffer_count(const struct call *call) {
    return abi_functions[call->number].buffer_count;
}

/* The input of a thread. Shared state is detected only if the threads compute different results, so every second
 * one gets zeros, which are legal inputs of every function. */
static struct region *input_of(unsigned thread, size_t i) {
    return thread % 2 == 0 ? &inputs[i] : &zeros[i];
}

/* Record a fault; the text of the first one is kept. */
static void note(struct caller *caller, uint32_t fault, const char *text) {
    caller->faults |= fault;
    if (caller->detail[0] == '\0') {
        snprintf(caller->detail, sizeof caller->detail, "%s", text);
    }
}

static void set_outputs(struct caller *caller) {
    for (size_t i = 0; i < buffer_count(caller->call); ++i) {
        if (buffer_of(caller->call, i)->output && caller->call->buffers[i].length != 0) {
            memcpy(caller->outputs[i].start, caller->call->buffers[i].bytes, caller->call->buffers[i].length);
        }
    }
}

/* Keep the outputs of the first call; compare those of later ones (Q8A8-ENV-2; with several threads, Q8A8-ENV-3). */
static void check_outputs(struct caller *caller, uint32_t round) {
    size_t at = 0;
    for (size_t i = 0; i < buffer_count(caller->call); ++i) {
        const struct region *region = &caller->outputs[i];
        if (!buffer_of(caller->call, i)->output || region->length == 0) {
            continue;
        }
        if (round == 0) {
            bytes_put(&caller->first, region->start, region->length);
        } else if (memcmp(caller->first.data + at, region->start, region->length) != 0) {
            char text[120];
            snprintf(text, sizeof text, "%s differs in call %lu of %lu", region->name, (unsigned long)round + 1,
                     (unsigned long)caller->call->repeat);
            note(caller, caller->barrier != NULL ? FAULT_THREAD_RESULT_VARIES : FAULT_RESULT_VARIES, text);
        }
        at += region->length;
    }
}

static void call_once(struct caller *caller) {
    const struct fpenv found = fpenv_read();
    if (caller->call->options & OPTION_FLUSH) {
        fpenv_write(fpenv_flushing(found));
    }
    const struct fpenv before = fpenv_read(); /* a bit that this CPU lacks stays 0 */
    abi_invoke(caller->call->number, caller->target->functions[caller->call->number], &caller->call->integers, caller->buffers);
    const struct fpenv after = fpenv_read();
    fpenv_write(found);
    char text[160] = "";
    const uint32_t faults = fpenv_compare(before, after, text, sizeof text);
    if (faults != 0) {
        note(caller, faults, text);
    }
}

static void *run_caller(void *argument) {
    struct caller *caller = argument;
    if (caller->barrier != NULL) {
        preempt_admit();
        pthread_barrier_wait(caller->barrier);
    }
    for (uint32_t round = 0; round < caller->call->repeat; ++round) {
        set_outputs(caller);
        call_once(caller);
        if ((caller - callers) % 2 != 0) {
            pause_tell();
        }
        check_outputs(caller, round);
    }
    return NULL;
}

/* By its offset, or with GUARD_AFTER by its length: a kernel may require this alignment (Q8A8-MEM-4). */
static const char *misaligned(const struct call *call, size_t i) {
    static char why[100];
    snprintf(why, sizeof why, "buffer %s would not be aligned to %u bytes", buffer_of(call, i)->name,
             buffer_of(call, i)->alignment);
    return why;
}

/* Bytes, or zeros for NULL. */
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

/* The offset of a buffer in its pages: the call's, and for inputs of threads the one for pausing. */
static uint32_t offset_of(const struct call *call, size_t i) {
    const struct call_buffer *buffer = &call->buffers[i];
    const bool placed = call->threads > 1 && !buffer_of(call, i)->output;
    return buffer->offset + (placed ? pause_offset(buffer->length, buffer->offset) : 0);
}

/* With SHARED_INPUTS: all inputs in one region, the first input's, as far apart as their offsets are. */
static const char *share_inputs(const struct call *call) {
    uint64_t begin = UINT64_MAX, end = 0;
    struct region *region = NULL;
    for (size_t i = 0; i < buffer_count(call); ++i) {
        const struct call_buffer *buffer = &call->buffers[i];
        if (!buffer_of(call, i)->output) {
            region = region == NULL ? &inputs[i] : region;
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
            callers[0].buffers[i] = start;
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
            memcmp(callers[0].buffers[i], buffer->bytes, buffer->length) != 0) {
            return "SHARED_INPUTS: the inputs differ where they overlap";
        }
    }
    if (call->options & OPTION_READONLY) {
        region_protect(region);
    }
    crash_watch(region);
    return NULL;
}

static const char *lay_out(const struct target *target, const struct call *call) {
    uint64_t memory = 0;
    for (size_t i = 0; i < buffer_count(call); ++i) {
        const uint64_t cost = region_cost(call->buffers[i].length, offset_of(call, i));
        memory += buffer_of(call, i)->output ? cost * call->threads : cost * (call->threads > 1 ? 2 : 1);
    }
    if (memory > MAX_MEMORY) {
        return "the buffers of all threads together are larger than 1 GiB";
    }
    crash_context(abi_functions[call->number].name);
    for (unsigned t = 0; t < call->threads; ++t) {
        callers[t].target = target;
        callers[t].call = call;
        callers[t].first.length = 0;
        callers[t].faults = 0;
        callers[t].detail[0] = '\0';
    }
    for (size_t i = 0; i < buffer_count(call); ++i) {
        const struct call_buffer *buffer = &call->buffers[i];
        const bool output = buffer_of(call, i)->output;
        for (unsigned t = 0; t < call->threads && (output || !(call->options & OPTION_SHARED_INPUTS)); ++t) {
            struct region *region = output ? &callers[t].outputs[i] : input_of(t, i);
            if (output || t < 2) {
                if (!region_place(region, buffer_of(call, i)->name, buffer->length, offset_of(call, i), call->options)) {
                    return "no memory for the buffers";
                }
                if ((uintptr_t)region->start % buffer_of(call, i)->alignment != 0) {
                    return misaligned(call, i);
                }
                if (!output) {
                    fill_input(region, t == 0 ? buffer->bytes : NULL, call->options);
                }
                crash_watch(region);
            }
            callers[t].buffers[i] = region->start;
        }
    }
    return call->options & OPTION_SHARED_INPUTS ? share_inputs(call) : NULL;
}

static const char *run_threads(const struct call *call) {
    const unsigned threads = call->threads;
    pthread_t ids[MAX_THREADS];
    pthread_barrier_t barrier; /* so that all of them call at once */
    pthread_barrier_init(&barrier, NULL, threads);
    for (size_t i = 0; i < buffer_count(call); ++i) {
        if (!buffer_of(call, i)->output) {
            pause_close(input_of(0, i));
        }
    }
    preempt_start();
    for (unsigned t = 0; t < threads; ++t) {
        callers[t].barrier = &barrier;
        if (pthread_create(&ids[t], NULL, run_caller, &callers[t]) != 0) {
            for (; t < threads; ++t) { /* take their place, or the running threads would wait forever */
                callers[t].barrier = NULL;
            }
            preempt_stop();
            pause_end();
            return "cannot start so many threads";
        }
    }
    for (unsigned t = 0; t < threads; ++t) {
        pthread_join(ids[t], NULL);
    }
    preempt_stop();
    pause_end();
    pthread_barrier_destroy(&barrier);
    return NULL;
}

static void check_memory(struct caller *caller, const struct region *region) {
    ptrdiff_t where;
    if (!region_intact(region, &where)) {
        char text[120];
        snprintf(text, sizeof text, "a byte at %s %c %td was written (length %zu)", region->name,
                 where < 0 ? '-' : '+', where < 0 ? -where : where, region->length);
        note(caller, FAULT_WROTE_OUTSIDE, text);
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

/* Check the memory, and compare each thread with the first one of the same inputs; all faults are collected in
 * callers[0]. */
static void look_around(const struct call *call) {
    for (unsigned t = 0; t < call->threads && t < 2; ++t) {
        bool shared = false; /* whether the canaries around this input were checked with another one's */
        for (size_t i = 0; i < buffer_count(call); ++i) {
            if (!buffer_of(call, i)->output) {
                if (!shared) {
                    check_memory(&callers[0], input_of(t, i));
                }
                shared = call->options & OPTION_SHARED_INPUTS;
                if (!unchanged(callers[t].buffers[i], call->buffers[i].length, t == 0 ? call->buffers[i].bytes : NULL)) {
                    char text[80];
                    snprintf(text, sizeof text, "the input %s was written", buffer_of(call, i)->name);
                    note(&callers[0], FAULT_INPUT_WRITTEN, text);
                }
            }
        }
    }
    for (unsigned t = 0; t < call->threads; ++t) {
        for (size_t i = 0; i < buffer_count(call); ++i) {
            if (buffer_of(call, i)->output) {
                check_memory(&callers[t], &callers[t].outputs[i]);
            }
        }
        if (t == 0) {
            continue;
        }
        if (callers[t].faults != 0) {
            note(&callers[0], callers[t].faults, callers[t].detail);
        }
        if (callers[t].first.length != 0 &&
            memcmp(callers[t].first.data, callers[t % 2].first.data, callers[0].first.length) != 0) {
            note(&callers[0], FAULT_THREAD_RESULT_VARIES, "the threads' outputs differ");
        }
    }
}

static void put_result(const struct call *call, struct bytes *reply) {
    uint8_t outputs = 0;
    for (size_t i = 0; i < buffer_count(call); ++i) {
        outputs = (uint8_t)(outputs + buffer_of(call, i)->output);
    }
    bytes_put_u8(reply, 'R');
    bytes_put_u32(reply, call->id);
    bytes_put_u32(reply, callers[0].faults);
    bytes_put_u32(reply, (uint32_t)strlen(callers[0].detail));
    bytes_put_text(reply, callers[0].detail);
    bytes_put_u8(reply, outputs);
    const uint8_t *first = callers[0].first.data;
    for (size_t i = 0; i < buffer_count(call); ++i) {
        if (buffer_of(call, i)->output) {
            bytes_put_u32(reply, call->buffers[i].length);
            bytes_put(reply, first, call->buffers[i].length);
            first += call->buffers[i].length;
        }
    }
}

const char *run_call(const struct target *target, const struct call *call, struct bytes *reply) {
    size_t lengths[ABI_MAX_BUFFERS];
    for (size_t i = 0; i < buffer_count(call); ++i) {
        lengths[i] = call->buffers[i].length;
    }
    if (target->functions[call->number] == NULL) {
        return "this kernel does not offer the function";
    }
    if ((call->options & OPTION_FLUSH) && !fpenv_known()) {
        return "this worker cannot set flush-to-zero on this processor";
    }
    const char *refusal = abi_refuse(call->number, &call->integers, lengths);
    if (refusal == NULL) {
        refusal = lay_out(target, call);
    }
    if (refusal == NULL && call->threads > 1) {
        refusal = run_threads(call);
    } else if (refusal == NULL) {
        callers[0].barrier = NULL;
        run_caller(&callers[0]);
    }
    crash_context("q8a8-harness");
    if (refusal == NULL) {
        look_around(call);
        put_result(call, reply);
    }
    return refusal;
}
