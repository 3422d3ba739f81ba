#include "crash.h"
#include "exit.h"
#include "target.h"

#include <dlfcn.h>
#include <string.h>

/* Converts a data pointer from dlsym to a function pointer, as POSIX allows. */
static abi_pointer *find(void *library, const char *symbol) {
    void *address = dlsym(library, symbol);
    abi_pointer *function = NULL;
    memcpy(&function, &address, sizeof function);
    return function;
}

struct target target_library(const char *path, const struct symbol symbols[ABI_FUNCTIONS], const char *init) {
    const char *slash = strrchr(path, '/');
    struct target target = {.name = slash != NULL ? slash + 1 : path, .version = "", .path = path};

    crash_context("the library's initialization");
    /* RTLD_NOW: a missing definition is an error here, not in the middle of a call. */
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fail("%s", dlerror());
    }
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
    }
    return target;
}
