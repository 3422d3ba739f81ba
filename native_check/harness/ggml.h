/* A device of ggml's as a target, called through ggml's public backend interface as the suite's `ggml:` does it. */
#ifndef Q8A8_HARNESS_GGML_H
#define Q8A8_HARNESS_GGML_H

#include "target.h"

struct ggml_options {
    const char *paths;     /* libraries, with commas, those that others need first */
    const char *device;    /* NULL: the first one */
    const char *threads;   /* of a CPU; NULL: what GGML_N_THREADS says, else 1 */
    const char *buffer;    /* of a product's weights: NULL, "default" or "repack" */
    const char *precision; /* asked of a product: NULL, "default" or "f32" */
    const char *copy;      /* what quantizes: NULL, "cpy" or "rows" */
};

/* Ends the program with status 2 if a library, a device, a kind of buffer or an option is not there. */
struct target target_ggml(const struct ggml_options *options);

#endif
