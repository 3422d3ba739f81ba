/* What is under test: a kernel of ours, or a library of somebody else's. */
#ifndef Q8A8_HARNESS_TARGET_H
#define Q8A8_HARNESS_TARGET_H

#include "abi.h"
#include "kernel.h"

struct target {
    const char *name, *version;
    const char *compiler, *flags; /* NULL: not known */
    const char *path;             /* of the file that holds the kernel; NULL: not known */
    abi_pointer *functions[ABI_FUNCTIONS]; /* NULL: not offered */
};

/* A row of the table of our kernels, which CMake writes (cmake/kernels.cmake). */
struct kernel_row {
    const char *name;
    const char *processor; /* "any", or the one that it is for */
    const char *flags;     /* of the compiler */
    const struct q8a8_kernel *kernel; /* NULL: not for the processor that this program was built for */
};

extern const struct kernel_row kernel_rows[]; /* ends with an empty row */

/* A kernel of ours. Ends the program: status 2 for an unknown name, 77 where the CPU cannot run it. */
struct target target_builtin(const char *name);

/* The CPU features that a kernel needs and this CPU lacks, with commas, into text: true if there are none. */
bool target_runs_here(const struct q8a8_kernel *kernel, char *text, size_t size);

/* --symbol ABI_NAME=EXPORTED_NAME */
struct symbol {
    const char *exported; /* NULL: the ABI name itself */
};

/* A shared library, its functions found by name; init (or NULL) is called once.
 * Ends the program with status 2 when it cannot be loaded or lacks a symbol that was named. */
struct target target_library(const char *path, const struct symbol symbols[ABI_FUNCTIONS], const char *init);

#endif
