#include "cpu.h"
#include "exit.h"
#include "target.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if defined(__clang__)
#define COMPILER __VERSION__
#else
#define COMPILER "GCC " __VERSION__
#endif

bool target_runs_here(const struct q8a8_kernel *kernel, char *text, size_t size) {
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < sizeof kernel->needs / sizeof *kernel->needs && kernel->needs[i] != NULL; ++i) {
        if (!cpu_has(kernel->needs[i]) && used < size) {
            used += (size_t)snprintf(text + used, size - used, "%s%s", used != 0 ? ", " : "", kernel->needs[i]);
        }
    }
    return used == 0;
}

static const char *own_path(void) {
    static char path[PATH_MAX];
    const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    return length > 0 ? path : NULL;
}

static const struct kernel_row *find_row(const char *name) {
    for (const struct kernel_row *row = kernel_rows; row->name != NULL; ++row) {
        if (strcmp(row->name, name) == 0) {
            return row;
        }
    }
    fail("unknown kernel %s; q8a8-harness --list shows the kernels", name);
}

struct target target_builtin(const char *name) {
    const struct kernel_row *row = find_row(name);
    char missing[100];
    if (row->kernel == NULL) {
        fail_with(EXIT_UNSUPPORTED, "kernel %s needs the CPU architecture %s (this program is for %s)", name,
                  row->processor, cpu_architecture());
    }
    if (!target_runs_here(row->kernel, missing, sizeof missing)) {
        fail_with(EXIT_UNSUPPORTED, "kernel %s needs the CPU feature %s", name, missing);
    }
    const struct q8a8_kernel *kernel = row->kernel;
    return (struct target){
        .name = row->name,
        .version = Q8A8_VERSION,
        .compiler = COMPILER,
        .flags = row->flags,
        .path = own_path(),
        .functions =
            {
                (abi_pointer *)kernel->quantize_row_ref,
                (abi_pointer *)kernel->quantize_row,
                (abi_pointer *)kernel->dequantize_row,
                (abi_pointer *)kernel->quantize_activation,
                (abi_pointer *)kernel->vec_dot,
                (abi_pointer *)kernel->vec_dot_real,
                (abi_pointer *)kernel->mul_mat,
            },
    };
}
