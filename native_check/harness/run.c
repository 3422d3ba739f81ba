#include "run.h"
#include "caller.h"
#include "crash.h"
#include "fpenv.h"
#include "fresh.h"
#include "together.h"
#include "watch.h"

#include <pthread.h>
#include <string.h>

enum { MAX_MEMORY = 1 << 30 }; /* bytes of pages for one call */

static struct caller callers[MAX_THREADS + 1]; /* one for threads that come and go; see together.h */

/* The call of a thread: every other one makes the other call, or has inputs of zeros, because shared state is detected
 * only if the threads compute different results. */
static const struct call *call_of(const struct call *call, unsigned thread) {
    return thread % 2 != 0 && call->other != NULL ? call->other : call;
}

/* With one thread, the other call comes before each of many. */
static unsigned count_callers(const struct call *call) {
    return call->threads > 1 ? call->threads + 1 : call->other != NULL ? 2 : 1;
}

static const char *lay_out(const struct target *target, const struct call *call) {
    const unsigned count = count_callers(call);
    uint64_t memory = 0;
    crash_context(abi_functions[call->number].name);
    for (unsigned t = 0; t < count; ++t) {
        const struct call *one = call_of(call, t);
        caller_begin(&callers[t], target, one, t % 2 != 0 && call->other == NULL, count > 1);
        for (size_t i = 0; i < buffer_count(one); ++i) {
            if (!buffer_of(one, i)->output && (call->options & OPTION_SHARED_INPUTS)) {
                continue; /* placed together, below */
            }
            memory += region_cost(one->buffers[i].length, one->buffers[i].offset);
            if (memory > MAX_MEMORY) {
                return "the buffers of all threads together are larger than 1 GiB";
            }
            const char *refusal = caller_place(&callers[t], i, one->buffers[i].offset);
            if (refusal != NULL) {
                return refusal;
            }
            crash_watch(&callers[t].regions[i]);
        }
    }
    return call->options & OPTION_SHARED_INPUTS ? caller_share_inputs(&callers[0]) : NULL;
}

/* Check the memory, and compare each thread with the first one that makes the same call; all faults are collected in
 * callers[0]. */
static void look_around(const struct call *call) {
    const unsigned count = count_callers(call);
    for (unsigned t = 0; t < count; ++t) {
        struct caller *caller = &callers[t];
        const struct caller *twin = &callers[t % 2];
        caller_check_memory(caller);
        if (t != 0 && caller->faults != 0) {
            caller_note(&callers[0], caller->faults, caller->detail);
        }
        if (caller->calls != 0 && caller->first.length != 0 &&
            memcmp(caller->first.data, twin->first.data, twin->first.length) != 0) {
            caller_note(&callers[0], FAULT_THREAD_RESULT_VARIES, "the threads' outputs differ");
        }
    }
}

static void put_outputs(const struct caller *caller, struct bytes *reply) {
    const struct call *call = caller->call;
    uint8_t outputs = 0;
    for (size_t i = 0; i < buffer_count(call); ++i) {
        outputs = (uint8_t)(outputs + buffer_of(call, i)->output);
    }
    bytes_put_u8(reply, outputs);
    const uint8_t *first = caller->first.data;
    for (size_t i = 0; i < buffer_count(call); ++i) {
        if (buffer_of(call, i)->output) {
            bytes_put_u32(reply, call->buffers[i].length);
            bytes_put(reply, first, call->buffers[i].length);
            bytes_reorder(reply->data + reply->length - call->buffers[i].length, call->buffers[i].length,
                          buffer_of(call, i)->number);
            first += call->buffers[i].length;
        }
    }
}

static void put_result(const struct call *call, const struct together *together, struct bytes *reply) {
    bytes_put_u8(reply, 'R');
    bytes_put_u32(reply, call->id);
    bytes_put_u32(reply, callers[0].faults);
    bytes_put_u32(reply, (uint32_t)strlen(callers[0].detail));
    bytes_put_text(reply, callers[0].detail);
    put_outputs(&callers[0], reply);
    if (call->extended) {
        bytes_put_u32(reply, (uint32_t)together->overlap_ns);
        bytes_put_u32(reply, (uint32_t)(together->overlap_ns >> 32));
        bytes_put_u32(reply, together->stops);
        bytes_put_u8(reply, 0); /* copies, see fresh.c */
        if (call->other != NULL) {
            put_outputs(&callers[1], reply);
        } else {
            bytes_put_u8(reply, 0);
        }
    }
}

static const char *refuse(const struct target *target, const struct call *call) {
    size_t lengths[ABI_MAX_BUFFERS];
    for (size_t i = 0; i < buffer_count(call); ++i) {
        lengths[i] = part_of(call, i);
        if ((call->options & OPTION_ROWS) && (call->buffers[i].length % call->repeat != 0 ||
                                              lengths[i] % buffer_of(call, i)->alignment != 0)) {
            return "ROWS: a buffer does not hold equal, aligned parts";
        }
    }
    if (target->functions[call->number] == NULL) {
        return "this kernel does not offer the function";
    }
    if ((call->options & OPTION_FLUSH) && !fpenv_flushes()) {
        return "this worker cannot set flush-to-zero on this processor";
    }
    const char *refusal = abi_refuse(call->number, &call->integers, lengths);
    return refusal == NULL && call->other != NULL ? refuse(target, call->other) : refusal;
}

static void *call_once(void *caller) {
    caller_call(caller, 0);
    return NULL;
}

/* Make a call in a thread of its own, and wait for its end; false where there is no thread to be had. */
static bool call_in_thread(struct caller *caller) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, call_once, caller) != 0) {
        return false;
    }
    pthread_join(thread, NULL);
    return true;
}

/* Make the call, in this process. */
static const char *run_here(const struct target *target, const struct call *call, uint64_t delay_ns, struct bytes *reply) {
    struct together together = {.callers = callers, .threads = call->threads, .repeat = call->repeat,
                                .milliseconds = call->milliseconds, .first = call->fresh != 0, .delay_ns = delay_ns};
    const char *refusal = lay_out(target, call);
    watch_begin(call);
    if (refusal == NULL && call->threads > 1) {
        refusal = together_run(&together);
    } else if (refusal == NULL) {
        const uint32_t calls = call->options & OPTION_ROWS ? 1 : call->repeat;
        for (uint32_t made = 0; made < calls; ++made) {
            if (call->other != NULL) {
                caller_call(&callers[1], 0);
            }
            if (made == 0 || !(call->options & OPTION_OWN_THREAD) || !call_in_thread(&callers[0])) {
                caller_call(&callers[0], 0);
            }
        }
        if ((call->options & OPTION_FLUSH) && calls > 1) {
            caller_call_imprecisely(&callers[0]);
        }
    }
    crash_context("q8a8-harness");
    char watched[WATCH_TEXT];
    const uint32_t left = watch_end(call, watched);
    if (left != 0) {
        caller_note(&callers[0], left, watched);
    }
    if (refusal == NULL && target->failure != NULL) {
        refusal = *target->failure;
        *target->failure = NULL;
    }
    if (refusal == NULL) {
        look_around(call);
        put_result(call, &together, reply);
    }
    return refusal;
}

const char *run_call(const struct target *target, const struct call *call, struct bytes *reply) {
    const char *refusal = refuse(target, call);
    if (refusal != NULL) {
        return refusal;
    }
    return call->fresh != 0 ? fresh_run(run_here, target, call, reply) : run_here(target, call, 0, reply);
}
