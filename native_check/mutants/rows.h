/* Rows of blocks by a function for one block: what the mutants for one architecture have in common. */
#ifndef Q8A8_MUTANTS_ROWS_H
#define Q8A8_MUTANTS_ROWS_H

#include "half.h"
#include "plain.h"

enum { V1_QS = 2 };

static inline uint16_t rows_half(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

/* A block's integer sum of 32 products. */
typedef int32_t rows_sum_fn(const int8_t *qx, const int8_t *qy);

/* A block's scale, and its 32 codes. */
typedef uint16_t rows_quantize_fn(const float *x, int8_t *q);

static inline float rows_dot(rows_sum_fn *block_sum, int n, const uint8_t *x, const uint8_t *y) {
    float sum = 0.0f;
    for (int b = 0; b < n / QK8_A8; ++b, x += Q8A8_BLOCK_BYTES, y += Q8A8_BLOCK_BYTES) {
        const int32_t sumi = block_sum((const int8_t *)(x + V1_QS), (const int8_t *)(y + V1_QS));
        const float scales = q8a8_half_to_float(rows_half(x)) * q8a8_half_to_float(rows_half(y));
        sum = sum + (float)sumi * scales;
    }
    return sum;
}

static inline void rows_vec_dot(rows_sum_fn *block_sum, DOT_PARAMETERS) {
    const uint8_t *x = vx;
    const uint8_t *y = vy;
    s[0] = rows_dot(block_sum, n, x, y);
    if (nrc == 2) {
        s[1] = rows_dot(block_sum, n, x + bx, y);
        s[bs] = rows_dot(block_sum, n, x, y + by);
        s[bs + 1] = rows_dot(block_sum, n, x + bx, y + by);
    }
}

static inline void rows_quantize(rows_quantize_fn *quantize, ROW_PARAMETERS) {
    uint8_t *block = y;
    for (int64_t b = 0; b < k / QK8_A8; ++b, x += QK8_A8, block += Q8A8_BLOCK_BYTES) {
        const uint16_t h = quantize(x, (int8_t *)(block + V1_QS));
        block[0] = (uint8_t)(h & 0xff);
        block[1] = (uint8_t)(h >> 8);
    }
}

/* max |x_j| of a block */
static inline float rows_amax(const float *x) {
    float amax = 0.0f;
    for (size_t j = 0; j < QK8_A8; ++j) {
        const float magnitude = q8a8_float_of_bits(q8a8_bits_of_float(x[j]) & 0x7fffffffu);
        amax = magnitude > amax ? magnitude : amax;
    }
    return amax;
}

/* A mutant whose dot product uses the function id for each block. */
#define MUTANT_DOT(id, ...)                                                                                            \
    static void id##_vec_dot(DOT_PARAMETERS) {                                                                         \
        rows_vec_dot(id, DOT_ARGUMENTS);                                                                               \
    }                                                                                                                  \
    MUTANT(id, .vec_dot = id##_vec_dot, .needs = {__VA_ARGS__})

/* A mutant whose quantizer uses the function id for each block. */
#define MUTANT_QUANTIZER(id, ...)                                                                                      \
    static void id##_quantize_row(ROW_PARAMETERS) {                                                                    \
        rows_quantize(id, ROW_ARGUMENTS);                                                                              \
    }                                                                                                                  \
    MUTANT(id, .quantize_row = id##_quantize_row, .needs = {__VA_ARGS__})

#endif
