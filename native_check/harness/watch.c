#include "watch.h"
#include "convention.h"
#include "state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
    MANY_CALLS = 1000,
    MANY = 8,           /* so many descriptors or threads more are not what a first call sets up */
    DESCRIPTORS = 64,   /* that a kernel can open in calls with STATE */
    KEPT_BYTES = 16,    /* per call: the least that an allocation takes */
    LEAST_GROWTH = 1 << 16,
};

struct memory {
    size_t allocated, mapped;
};

static struct state before, after, last;
static uint32_t calls_made;
static struct memory marks[3]; /* after the first call, half of them, and all */

struct notes {
    uint32_t faults, calls;
    char *text;
};

static void add(struct notes *notes, uint32_t fault, const char *what, const char *detail) {
    const size_t used = strlen(notes->text);
    notes->faults |= fault;
    snprintf(notes->text + used, WATCH_TEXT - used, "%s%s: %s", used != 0 ? "; " : "", what, detail);
}

static bool is(const char *left, const char *right) {
    return strcmp(left, right) == 0;
}

static void note(void *context, const char *what, const char *detail) {
    struct notes *notes = context;
    const bool threads = is(what, "threads");
    if (threads || is(what, "descriptors")) {
        const long more = threads ? after.threads - before.threads : after.descriptors - before.descriptors;
        if (more >= MANY && notes->calls >= MANY_CALLS) {
            add(notes, FAULT_RESOURCES_KEPT, what, detail);
        } else if (threads) {
            add(notes, FAULT_OUTPUT_OR_THREAD, what, detail);
        }
        return;
    }
    add(notes, is(what, "standard-output") ? FAULT_OUTPUT_OR_THREAD : FAULT_PROCESS_CHANGED, what, detail);
}

/* Whether what calls keep is looked for: threads that end show it sooner. */
static bool many(const struct call *call) {
    return call->repeat >= MANY_CALLS || (call->options & OPTION_OWN_THREAD) != 0;
}

static bool watched(const struct call *call) {
    return (call->options & OPTION_STATE) != 0 && call->threads == 1;
}

void watch_begin(const struct call *call) {
    calls_made = 0;
    if (watched(call)) {
        state_limit_descriptors(DESCRIPTORS);
        state_read(&before);
    }
}

static struct memory memory_now(void) {
    return (struct memory){state_allocated(), state_mapped()};
}

/* The memory after the first call, after half of them, and after all: what grows in both halves grows on and on. */
static void mark_memory(const struct call *call) {
    const uint32_t repeat = call->repeat;
    ++calls_made;
    if (many(call) && (calls_made == 1 || calls_made == repeat / 2 || calls_made == repeat)) {
        marks[calls_made == 1 ? 0 : calls_made == repeat ? 2 : 1] = memory_now();
    }
}

/* As callers may leave it in calls with STATE: no result may depend on it. */
static void set_errno(const struct call *call, int value) {
    if (watched(call)) {
        errno = value;
    }
}

uint32_t watch_call(const struct call *call, abi_pointer *function, void *const *buffers, char text[WATCH_TEXT]) {
    uint64_t words[ABI_WORDS];
    uint32_t faults = 0;
    text[0] = '\0';
    if (!convention_known()) {
        set_errno(call, ERANGE);
        abi_invoke(call->number, function, &call->integers, buffers);
        set_errno(call, 0);
        return 0;
    }
    const bool measured = watched(call) && !many(call);
    void *stack = measured ? convention_stack() : NULL;
    abi_words(call->number, &call->integers, buffers, words);
    if (watched(call)) {
        abi_undefine(call->number, words);
    }
    set_errno(call, ERANGE);
    convention_call(function, words, stack, text, WATCH_TEXT);
    set_errno(call, 0);
    if (text[0] != '\0') {
        faults |= FAULT_CONVENTION_BROKEN;
    }
    if (stack != NULL && convention_stack_used() > STACK_BUDGET) {
        const size_t used = strlen(text);
        faults |= FAULT_STACK_EXCEEDED;
        snprintf(text + used, WATCH_TEXT - used, "%sthe call used %zu bytes of stack, at most %d may be",
                 used != 0 ? "; " : "", convention_stack_used(), (int)STACK_BUDGET);
    }
    if (watched(call)) {
        mark_memory(call);
    }
    return faults;
}

static void check_memory(struct notes *notes, uint32_t repeat, const char *name, size_t first, size_t half, size_t all) {
    const size_t each = (size_t)KEPT_BYTES * (repeat / 2 - 1);
    const size_t least = each > LEAST_GROWTH ? each : LEAST_GROWTH;
    if (half >= first + least && all >= half + least) {
        char text[80];
        snprintf(text, sizeof text, "grows by %zu bytes a call", (all - first) / (repeat - 1));
        add(notes, FAULT_RESOURCES_KEPT, name, text);
    }
}

/* What an earlier call has changed since the last comparison; the limits are changed by the harness itself. */
static void compare_settings(struct notes *notes) {
    static struct state now;
    now = before;
    memcpy(now.limits, last.limits, sizeof now.limits);
    now.output = last.output;
    now.threads = last.threads;
    now.descriptors = last.descriptors;
    state_compare(&last, &now, note, notes);
}

/* The state that calls without STATE are compared with later. */
void watch_install(void) {
    state_make_unusual();
    state_read(&last);
}

uint32_t watch_end(const struct call *call, char text[WATCH_TEXT]) {
    struct notes notes = {.calls = call->repeat, .text = text};
    text[0] = '\0';
    if (call->threads > 1) {
        state_read(&last); /* threads use signals of the harness's own */
    }
    if (!watched(call)) {
        return 0;
    }
    state_read(&after);
    state_limit_descriptors(-1);
    compare_settings(&notes);
    state_compare(&before, &after, note, &notes);
    last = after;
    if (many(call) && calls_made == call->repeat) {
        check_memory(&notes, call->repeat, "allocated memory", marks[0].allocated, marks[1].allocated, marks[2].allocated);
        if (!(call->options & OPTION_OWN_THREAD)) { /* an emulator maps memory for each thread that there was */
            check_memory(&notes, call->repeat, "mapped memory", marks[0].mapped, marks[1].mapped, marks[2].mapped);
        }
    }
    return notes.faults;
}
