#include "crash.h"
#include "exit.h"
#include "fpenv.h"
#include "protocol.h"
#include "state.h"
#include "target.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Converts a data pointer from dlsym to a function pointer, as POSIX allows. */
static abi_pointer *find(void *library, const char *symbol) {
    void *address = dlsym(library, symbol);
    abi_pointer *function = NULL;
    memcpy(&function, &address, sizeof function);
    return function;
}

static struct load_change changes[MAX_LOAD_CHANGES];
static size_t change_count;

static void note_change(void *when, const char *what, const char *detail) {
    if (change_count < MAX_LOAD_CHANGES) {
        struct load_change *change = &changes[change_count++];
        change->when = when;
        change->what = what;
        snprintf(change->detail, sizeof change->detail, "%s", detail);
    }
}

/* Notes what has changed since `before` and `modes` were read. The floating-point environment is set back, so that the
 * calls are judged by themselves. */
static void note_changes(char *when, struct state *before, struct fpenv modes) {
    static const struct {
        uint32_t fault;
        const char *what;
    } kinds[] = {
        {FAULT_ROUNDING_MODE_CHANGED, "rounding-mode"},
        {FAULT_FLUSH_MODE_CHANGED, "flush-mode"},
        {FAULT_TRAP_MASK_CHANGED, "trap-masks"},
    };
    static struct state after;
    char text[160] = "";
    const uint32_t faults = fpenv_compare(modes, fpenv_read(), text, sizeof text);
    fpenv_write(modes);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; ++i) {
        if (faults & kinds[i].fault) {
            note_change(when, kinds[i].what, text);
        }
    }
    state_read(&after);
    state_compare(before, &after, note_change, when);
    *before = after;
}

struct target target_library(const char *path, const struct symbol symbols[ABI_FUNCTIONS], const char *init) {
    const char *slash = strrchr(path, '/');
    struct target target = {.name = slash != NULL ? slash + 1 : path, .version = "", .path = path};

    static struct state before;
    static char load[] = "load";
    static char initialize[] = "init";
    state_read(&before);
    const struct fpenv found = fpenv_read();
    const struct fpenv modes = getenv("Q8A8_LOAD_FLUSHING") != NULL ? fpenv_flushing(found, 0) : found;
    fpenv_write(modes);
    crash_context("the library's initialization");
    /* RTLD_NOW: a missing definition is an error here, not in the middle of a call. */
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fail("%s", dlerror());
    }
    note_changes(load, &before, modes);
    for (size_t i = 0; i < ABI_FUNCTIONS; ++i) {
        const char *asked = symbols[i].exported;
        target.functions[i] = find(library, asked != NULL ? asked : abi_functions[i].name);
        if (asked != NULL && target.functions[i] == NULL) {
            fail("%s exports no %s", path, asked);
        }
    }
    if (init != NULL) {
        abi_pointer *function = find(library, init);
        if (function == NULL) {
            fail("%s exports no %s", path, init);
        }
        function();
        note_changes(initialize, &before, modes);
    }
    fpenv_write(found);
    target.changes = changes;
    target.change_count = change_count;
    return target;
}
