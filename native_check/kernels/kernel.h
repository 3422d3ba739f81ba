/* A built-in kernel: a name, the CPU features that it needs, and the functions of q8a8.h. */
#ifndef Q8A8_KERNEL_H
#define Q8A8_KERNEL_H

#include "product.h"

/* Before a loop whose arrays are to be registers. */
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

typedef void q8a8_quantize_row_fn(const float *x, void *y, int64_t k);
typedef void q8a8_dequantize_row_fn(const void *x, float *y, int64_t k);
typedef void q8a8_quantize_activation_fn(const float *input, int8_t *output, uint16_t *scale, int size);
typedef void q8a8_vec_dot_fn(int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy, size_t by, int nrc);
typedef void q8a8_vec_dot_real_fn(int n, float *s, const void *vx, const void *vy);
typedef void q8a8_mul_mat_fn(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out);
typedef void q8a8_quantize_row_v2_fn(const float *x, void *y, int64_t k, enum q8a8_field field);
typedef void q8a8_dequantize_row_v2_fn(const void *x, float *y, int64_t k, enum q8a8_field field);

struct q8a8_kernel {
    const char *name;
    const char *needs[4]; /* CPU features as Linux names them (harness/cpu.c), up to the first NULL */
    q8a8_quantize_row_fn *quantize_row_ref;
    q8a8_quantize_row_fn *quantize_row;
    q8a8_dequantize_row_fn *dequantize_row;
    q8a8_quantize_activation_fn *quantize_activation;
    q8a8_vec_dot_fn *vec_dot;
    q8a8_vec_dot_real_fn *vec_dot_real;
    q8a8_mul_mat_fn *mul_mat;
    q8a8_quantize_row_v2_fn *quantize_row_v2;
    q8a8_dequantize_row_v2_fn *dequantize_row_v2;
    const struct q8a8_product *product; /* for packed weights */
};

#endif
