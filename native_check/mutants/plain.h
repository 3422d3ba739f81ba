/* What the mutants are made of: the scalar kernel's functions, and a macro for a kernel that changes some of them.
 *
 * Each mutant makes one mistake; everything else is the scalar kernel, so that whatever the suite finds is that mistake.
 * list.h has every mutant's slug, what it does wrong, the rule that it breaks, and the fix. */
#ifndef Q8A8_MUTANTS_PLAIN_H
#define Q8A8_MUTANTS_PLAIN_H

#include "kernel.h"

#include <string.h>

#define ROW_PARAMETERS const float *x, void *y, int64_t k
#define ROW_ARGUMENTS x, y, k
#define DEQUANTIZE_PARAMETERS const void *x, float *y, int64_t k
#define DEQUANTIZE_ARGUMENTS x, y, k
#define ACTIVATION_PARAMETERS const float *input, int8_t *output, uint16_t *scale, int size
#define ACTIVATION_ARGUMENTS input, output, scale, size
#define DOT_PARAMETERS int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy, size_t by, int nrc
#define DOT_ARGUMENTS n, s, bs, vx, bx, vy, by, nrc
#define DOT_REAL_PARAMETERS int n, float *s, const void *vx, const void *vy
#define DOT_REAL_ARGUMENTS n, s, vx, vy
#define MUL_MAT_PARAMETERS int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out
#define MUL_MAT_ARGUMENTS m, n, k, w, x, out

extern const struct q8a8_kernel q8a8_kernel_scalar;

/* The scalar kernel's functions, with addresses that an initializer can hold. */
q8a8_quantize_row_fn plain_quantize_row;
q8a8_dequantize_row_fn plain_dequantize_row;
q8a8_quantize_activation_fn plain_quantize_activation;
q8a8_vec_dot_fn plain_vec_dot;
q8a8_vec_dot_real_fn plain_vec_dot_real;
q8a8_mul_mat_fn plain_mul_mat;

/* A mutant is the scalar kernel with some functions replaced: fields are initialized twice on purpose. */
#if defined(__clang__)
#pragma clang diagnostic ignored "-Winitializer-overrides"
#else
#pragma GCC diagnostic ignored "-Woverride-init"
#endif

/* The mutant `id` of list.h, with what it changes of the scalar kernel as designated initializers. */
#define MUTANT(id, ...)                                                                                                \
    extern const struct q8a8_kernel mutant_##id;                                                                       \
    const struct q8a8_kernel mutant_##id = {                                                                           \
        .quantize_row_ref = plain_quantize_row,                                                                        \
        .quantize_row = plain_quantize_row,                                                                            \
        .dequantize_row = plain_dequantize_row,                                                                        \
        .quantize_activation = plain_quantize_activation,                                                              \
        .vec_dot = plain_vec_dot,                                                                                      \
        .vec_dot_real = plain_vec_dot_real,                                                                            \
        .mul_mat = plain_mul_mat,                                                                                      \
        __VA_ARGS__,                                                                                                   \
    }

/* Always 0, which the compiler does not know: it cannot optimize away what depends on it. */
extern volatile size_t mutant_zero;

/* Load so many bytes from there, and discard them. */
void mutant_load(const void *from, size_t count);

/* The same memory, to be written to. */
void *mutant_writable(const void *input);

static inline size_t mutant_row_bytes(int64_t n) {
    return (size_t)n / QK8_A8 * Q8A8_BLOCK_BYTES;
}

#endif
