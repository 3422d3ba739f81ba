/* The functions of q8a8.h over rows, for a kernel of any processor. Include it after defining, as static inline,
 *     int32_t block_sum(const int8_t *qx, const int8_t *qy);             the exact sum of 32 products (Q8A8-DOT-1)
 *     float float_of_half(uint16_t half);                                (Q8A8-HLF-2)
 *     uint16_t quantize_values(const float *x, int8_t *q, size_t count); under one scale (Q8A8-QNT-1 to Q8A8-QNT-6)
 *     void dequantize_block(uint16_t half, const int8_t *q, float *y);   32 elements (Q8A8-DEQ-1)
 * All but block_sum are the same for many kernels: neon_values.h, sve_values.h and x86_values.h have them.
 *
 * To be bit-identical to the scalar order, the lanes of a block are reduced as integers, where the order does not
 * matter, and then scaled and added block after block, unfused. */
#ifndef Q8A8_ROWS_H
#define Q8A8_ROWS_H

#include "kernel.h"

/* Blocks are 2-byte aligned bytes (Q8A8-MEM-4), little-endian on any machine. */
static inline uint16_t load_half(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline void store_half(uint8_t *p, uint16_t half) {
    p[0] = (uint8_t)(half & 0xff);
    p[1] = (uint8_t)(half >> 8);
}

enum { V1_QS = 2, V2_ACTIVATION_SCALE = 2, V2_QS = 4 };

static void rows_quantize_row(const float *x, void *y, int64_t k) {
    uint8_t *block = y;
    for (int64_t b = 0; b < k / QK8_A8; ++b, x += QK8_A8, block += Q8A8_BLOCK_BYTES) {
        store_half(block, quantize_values(x, (int8_t *)(block + V1_QS), QK8_A8));
    }
}

static void rows_quantize_row_v2(const float *x, void *y, int64_t k, enum q8a8_field field) {
    const size_t carried = field == Q8A8_WEIGHT_SCALE ? 0 : V2_ACTIVATION_SCALE;
    uint8_t *block = y;
    for (int64_t b = 0; b < k / QK8_A8; ++b, x += QK8_A8, block += Q8A8_V2_BLOCK_BYTES) {
        store_half(block + carried, quantize_values(x, (int8_t *)(block + V2_QS), QK8_A8));
        store_half(block + V2_ACTIVATION_SCALE - carried, 0); /* Q8A8-LAY-4 */
    }
}

static void rows_quantize_activation(const float *input, int8_t *output, uint16_t *scale, int size) {
    *scale = quantize_values(input, output, size > 0 ? (size_t)size : 0); /* Q8A8-QNT-9 */
}

static void rows_dequantize_row(const void *x, float *y, int64_t k) {
    const uint8_t *block = x;
    for (int64_t b = 0; b < k / QK8_A8; ++b, y += QK8_A8, block += Q8A8_BLOCK_BYTES) {
        dequantize_block(load_half(block), (const int8_t *)(block + V1_QS), y);
    }
}

static void rows_dequantize_row_v2(const void *x, float *y, int64_t k, enum q8a8_field field) {
    const size_t scale = field == Q8A8_WEIGHT_SCALE ? 0 : V2_ACTIVATION_SCALE;
    const uint8_t *block = x;
    for (int64_t b = 0; b < k / QK8_A8; ++b, y += QK8_A8, block += Q8A8_V2_BLOCK_BYTES) {
        dequantize_block(load_half(block + scale), (const int8_t *)(block + V2_QS), y);
    }
}

/* What a block adds to a dot product: f32(f32(sumi) * f32(dx * dy)) (Q8A8-DOT-2). */
static inline float rows_term(const uint8_t *x, const uint8_t *y, size_t y_scale, size_t qs) {
    const int32_t sumi = block_sum((const int8_t *)(x + qs), (const int8_t *)(y + qs));
    const float dx = float_of_half(load_half(x));
    const float dy = float_of_half(load_half(y + y_scale));
    return (float)sumi * (dx * dy);
}

/* sum = f32(sum + term), block after block (Q8A8-DOT-3). The arguments for the block's layout are constants, with
 * which calls are inlined. */
static inline float rows_dot(int n, const uint8_t *x, const uint8_t *y, size_t bytes, size_t y_scale, size_t qs) {
    float sum = 0.0f;
    for (int b = 0; b < n / QK8_A8; ++b, x += bytes, y += bytes) {
        sum = sum + rows_term(x, y, y_scale, qs);
    }
    return sum;
}

static inline float rows_dot_v1(int n, const uint8_t *x, const uint8_t *y) {
    return rows_dot(n, x, y, Q8A8_BLOCK_BYTES, 0, V1_QS);
}

static void rows_vec_dot_real(int n, float *s, const void *vx, const void *vy) {
    s[0] = rows_dot(n, vx, vy, Q8A8_V2_BLOCK_BYTES, V2_ACTIVATION_SCALE, V2_QS); /* Q8A8-DOT-9 */
}

/* nrc = 1, or nrc = 2 as four dot products (Q8A8-DOT-6): for kernels without matrix instructions. */
static inline void rows_vec_dot(int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy, size_t by,
                               int nrc) {
    const uint8_t *x = vx;
    const uint8_t *y = vy;
    s[0] = rows_dot_v1(n, x, y);
    if (nrc == 2) {
        s[1] = rows_dot_v1(n, x + bx, y);
        s[bs] = rows_dot_v1(n, x, y + by);
        s[bs + 1] = rows_dot_v1(n, x + bx, y + by);
    }
}

/* A product for kernels that have no tile of their own: a tile is a row. */
static inline size_t rows_of_tile(void) {
    return 1;
}

/* x[32 * blocks] -> struct q8a8_column (Q8A8-MUL-4). */
static inline void rows_quantize_columns(const float *x, void *columns, size_t blocks) {
    struct q8a8_column *column = columns;
    for (size_t b = 0; b < blocks; ++b, ++column, x += QK8_A8) {
        column->scale = float_of_half(quantize_values(x, column->q, QK8_A8));
        column->sum = 0;
        for (size_t j = 0; j < QK8_A8; ++j) {
            column->sum += column->q[j];
        }
    }
}

static inline void rows_tile(const uint8_t *ints, const uint16_t *scales, size_t blocks, const void *columns,
                             size_t apart, size_t count, float *sums, size_t stride) {
    for (size_t c = 0; c < count; ++c) {
        const void *first = (const uint8_t *)columns + c * apart;
        const struct q8a8_column *column = first;
        for (size_t b = 0; b < blocks; ++b) {
            const int32_t sumi = block_sum((const int8_t *)(ints + b * QK8_A8), column[b].q);
            const float dw = float_of_half(scales[b]);
            sums[c * stride] = sums[c * stride] + (float)sumi * (dw * column[b].scale);
        }
    }
}

#define ROWS_PRODUCT                                                                                                   \
    {                                                                                                                  \
        .rows = rows_of_tile, .group = QK8_A8, .column_bytes = sizeof(struct q8a8_column),                             \
        .quantize = rows_quantize_columns, .tile = rows_tile                                                           \
    }

/* The part of a struct q8a8_kernel that all kernels share. */
#define ROWS_KERNEL_FUNCTIONS                                                                                          \
    .quantize_row_ref = rows_quantize_row, .quantize_row = rows_quantize_row, .dequantize_row = rows_dequantize_row,   \
    .quantize_activation = rows_quantize_activation, .vec_dot_real = rows_vec_dot_real,                                \
    .quantize_row_v2 = rows_quantize_row_v2, .dequantize_row_v2 = rows_dequantize_row_v2

#endif
