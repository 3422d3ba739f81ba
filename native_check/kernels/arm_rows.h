/* The functions of q8a8.h over rows, for a 64-bit Arm kernel. Include it after neon_values.h or sve_values.h, and
 * after defining
 *     static inline int32_t block_sum(const int8_t *qx, const int8_t *qy);
 * the exact integer sum of 32 products (Q8A8-DOT-1), the only difference between the kernels' dot products.
 *
 * To be bit-identical to the scalar order, the lanes of a block are reduced as integers, where the order does not
 * matter, and then scaled and added block after block, unfused. */
#ifndef Q8A8_ARM_ROWS_H
#define Q8A8_ARM_ROWS_H

#include "arm.h"

enum { V1_QS = 2, V2_ACTIVATION_SCALE = 2, V2_QS = 4 };

static void arm_quantize_row(const float *x, void *y, int64_t k) {
    uint8_t *block = y;
    for (int64_t b = 0; b < k / QK8_A8; ++b, x += QK8_A8, block += Q8A8_BLOCK_BYTES) {
        arm_store_half(block, quantize_values(x, (int8_t *)(block + V1_QS), QK8_A8));
    }
}

static void arm_quantize_row_v2(const float *x, void *y, int64_t k, enum q8a8_field field) {
    const size_t carried = field == Q8A8_WEIGHT_SCALE ? 0 : V2_ACTIVATION_SCALE;
    uint8_t *block = y;
    for (int64_t b = 0; b < k / QK8_A8; ++b, x += QK8_A8, block += Q8A8_V2_BLOCK_BYTES) {
        arm_store_half(block + carried, quantize_values(x, (int8_t *)(block + V2_QS), QK8_A8));
        arm_store_half(block + V2_ACTIVATION_SCALE - carried, 0); /* Q8A8-LAY-4 */
    }
}

static void arm_quantize_activation(const float *input, int8_t *output, uint16_t *scale, int size) {
    *scale = quantize_values(input, output, size > 0 ? (size_t)size : 0); /* Q8A8-QNT-9 */
}

static void arm_dequantize_row(const void *x, float *y, int64_t k) {
    const uint8_t *block = x;
    for (int64_t b = 0; b < k / QK8_A8; ++b, y += QK8_A8, block += Q8A8_BLOCK_BYTES) {
        dequantize_block(arm_load_half(block), (const int8_t *)(block + V1_QS), y);
    }
}

static void arm_dequantize_row_v2(const void *x, float *y, int64_t k, enum q8a8_field field) {
    const size_t scale = field == Q8A8_WEIGHT_SCALE ? 0 : V2_ACTIVATION_SCALE;
    const uint8_t *block = x;
    for (int64_t b = 0; b < k / QK8_A8; ++b, y += QK8_A8, block += Q8A8_V2_BLOCK_BYTES) {
        dequantize_block(arm_load_half(block + scale), (const int8_t *)(block + V2_QS), y);
    }
}

/* What a block adds to a dot product: f32(f32(sumi) * f32(dx * dy)) (Q8A8-DOT-2). */
static inline float arm_term(const uint8_t *x, const uint8_t *y, size_t y_scale, size_t qs) {
    const int32_t sumi = block_sum((const int8_t *)(x + qs), (const int8_t *)(y + qs));
    const float dx = arm_float_of_half(arm_load_half(x));
    const float dy = arm_float_of_half(arm_load_half(y + y_scale));
    return (float)sumi * (dx * dy);
}

/* sum = f32(sum + term), block after block (Q8A8-DOT-3). The arguments for the block's layout are constants, with
 * which calls are inlined. */
static inline float arm_dot(int n, const uint8_t *x, const uint8_t *y, size_t bytes, size_t y_scale, size_t qs) {
    float sum = 0.0f;
    for (int b = 0; b < n / QK8_A8; ++b, x += bytes, y += bytes) {
        sum = sum + arm_term(x, y, y_scale, qs);
    }
    return sum;
}

static inline float arm_dot_v1(int n, const uint8_t *x, const uint8_t *y) {
    return arm_dot(n, x, y, Q8A8_BLOCK_BYTES, 0, V1_QS);
}

static void arm_vec_dot_real(int n, float *s, const void *vx, const void *vy) {
    s[0] = arm_dot(n, vx, vy, Q8A8_V2_BLOCK_BYTES, V2_ACTIVATION_SCALE, V2_QS); /* Q8A8-DOT-9 */
}

/* Each block of a row of x is quantized once, and its terms are added to all sums of the row (Q8A8-MUL-4, -5). */
static void arm_mul_mat(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out) {
    const size_t row = (size_t)(k / QK8_A8) * Q8A8_BLOCK_BYTES;
    for (int64_t i = 0; i < n; ++i, out += m) {
        for (int64_t j = 0; j < m; ++j) {
            out[j] = 0.0f;
        }
        const uint8_t *column = w;
        for (int64_t b = 0; b < k / QK8_A8; ++b, x += QK8_A8, column += Q8A8_BLOCK_BYTES) {
            uint8_t block[Q8A8_BLOCK_BYTES];
            arm_quantize_row(x, block, QK8_A8);
            for (int64_t j = 0; j < m; ++j) {
                out[j] = out[j] + arm_term(column + (size_t)j * row, block, 0, V1_QS);
            }
        }
    }
}

/* nrc = 1, or nrc = 2 as four dot products (Q8A8-DOT-6): for kernels without matrix instructions. */
static inline void arm_vec_dot(int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy, size_t by,
                               int nrc) {
    const uint8_t *x = vx;
    const uint8_t *y = vy;
    s[0] = arm_dot_v1(n, x, y);
    if (nrc == 2) {
        s[1] = arm_dot_v1(n, x + bx, y);
        s[bs] = arm_dot_v1(n, x, y + by);
        s[bs + 1] = arm_dot_v1(n, x + bx, y + by);
    }
}

/* The part of a struct q8a8_kernel that all of these kernels share. */
#define ARM_KERNEL_FUNCTIONS                                                                                           \
    .quantize_row_ref = arm_quantize_row, .quantize_row = arm_quantize_row, .dequantize_row = arm_dequantize_row,      \
    .quantize_activation = arm_quantize_activation, .vec_dot_real = arm_vec_dot_real, .mul_mat = arm_mul_mat,          \
    .quantize_row_v2 = arm_quantize_row_v2, .dequantize_row_v2 = arm_dequantize_row_v2

#endif
