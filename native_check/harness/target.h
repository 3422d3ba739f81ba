/* The target under test: a built-in kernel, a third-party library or a device of ggml's. */
#ifndef Q8A8_HARNESS_TARGET_H
#define Q8A8_HARNESS_TARGET_H

#include "abi.h"
#include "kernel.h"

/* What loading a library or its initializer left changed in the process. */
struct load_change {
    const char *when; /* "load" or "init" */
    const char *what; /* a slug: "signal-mask" */
    char detail[200];
};

enum { MAX_LOAD_CHANGES = 32, MAX_OPERATIONS = 5 };

/* A device of ggml's, with the operations that it supports. */
struct target_device {
    const char *name, *operations[MAX_OPERATIONS];
    size_t operation_count;
};

struct target {
    const char *name, *version;
    const char *compiler, *flags; /* NULL: not known */
    const char *path;             /* of the file that holds the kernel; NULL: not known */
    abi_pointer *functions[ABI_FUNCTIONS]; /* NULL: not offered */
    const struct load_change *changes;     /* NULL: the kernel was not loaded */
    size_t change_count;
    const struct target_device *devices; /* NULL: not a device of ggml's */
    size_t device_count;
    const char **failure; /* why the last call failed, NULL if it did not; NULL: calls do not */
};

/* A row of the table of built-in kernels, which CMake generates (cmake/kernels.cmake). */
struct kernel_row {
    const char *name;
    const char *processor; /* "any", or the required one */
    const char *flags;     /* of the compiler */
    const struct q8a8_kernel *kernel; /* NULL: not built for this processor */
};

extern const struct kernel_row kernel_rows[]; /* ends with an empty row */

/* A built-in kernel. Ends the program with status 2 for an unknown name, 77 if the CPU cannot run it. */
struct target target_builtin(const char *name);

/* Write the CPU features that a kernel needs and this CPU lacks to text, with commas; true if there are none. */
bool target_runs_here(const struct q8a8_kernel *kernel, char *text, size_t size);

/* --symbol ABI_NAME=EXPORTED_NAME */
struct symbol {
    const char *exported; /* NULL: the ABI name itself */
};

/* A shared library, whose functions are found by name; init (or NULL) is called once.
 * Ends the program with status 2 if it cannot be loaded or lacks a requested symbol. */
struct target target_library(const char *path, const struct symbol symbols[ABI_FUNCTIONS], const char *init);

#endif
