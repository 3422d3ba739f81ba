/* @NAME@: the six functions of q8a8.h. Replace what you make faster; keep the bits.
 *
 * The sum of a block's products is in block_sum_scalar.h, block_sum_neon.h or block_sum_avx2.h: all three are exact
 * integer sums, so that the results are the same (Q8A8-DOT-1). Compile with -ffp-contract=off: a fused multiply-add
 * changes bits. */
#include "half.h"
#include "q8a8.h"

#if defined(KERNEL_NEON)
#include "block_sum_neon.h"
#elif defined(KERNEL_AVX2)
#include "block_sum_avx2.h"
#else
#include "block_sum_scalar.h"
#endif

#define EXPORT __attribute__((visibility("default")))

static uint16_t load_half(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

static void store_half(uint8_t *p, uint16_t half) {
    p[0] = (uint8_t)(half & 0xff);
    p[1] = (uint8_t)(half >> 8);
}

/* roundf, halves away from zero (Q8A8-QNT-4); a NaN gives 0. */
static int8_t round_to_int8(float v) {
    if (!(v > -127.5f && v < 127.5f)) {
        return 0;
    }
    const int32_t whole = (int32_t)v;
    const float rest = v - (float)whole;
    return (int8_t)(whole + (rest >= 0.5f) - (rest <= -0.5f));
}

/* Quantize count floats under one scale; returns the scale (Q8A8-QNT-1 to Q8A8-QNT-6). */
static uint16_t quantize(const float *x, int8_t *q, int64_t count) {
    float amax = 0.0f;
    for (int64_t j = 0; j < count; ++j) {
        const float magnitude = q8a8_float_of_bits(q8a8_bits_of_float(x[j]) & 0x7fffffffu);
        amax = magnitude > amax ? magnitude : amax;
    }
    const uint16_t h = q8a8_float_to_half(amax / 127.0f);
    const float inv = h != 0 ? 127.0f / amax : 0.0f; /* the test is on the stored half */
    for (int64_t j = 0; j < count; ++j) {
        q[j] = round_to_int8(x[j] * inv);
    }
    return h;
}

EXPORT void quantize_row_q8_a8_ref(const float *x, void *y, int64_t k) {
    uint8_t *block = y;
    for (int64_t b = 0; b < k / QK8_A8; ++b, x += QK8_A8, block += Q8A8_BLOCK_BYTES) {
        store_half(block, quantize(x, (int8_t *)(block + 2), QK8_A8));
    }
}

EXPORT void quantize_row_q8_a8(const float *x, void *y, int64_t k) {
    quantize_row_q8_a8_ref(x, y, k); /* the same bytes (Q8A8-QNT-8) */
}

EXPORT void quantize_activation_q8_a8(const float *input, int8_t *output, uint16_t *scale, int size) {
    *scale = quantize(input, output, size);
}

/* y_j = f32(h) * q_j, exact (Q8A8-DEQ-1). */
EXPORT void dequantize_row_q8_a8(const void *x, float *y, int64_t k) {
    const uint8_t *block = x;
    for (int64_t b = 0; b < k / QK8_A8; ++b, y += QK8_A8, block += Q8A8_BLOCK_BYTES) {
        const float d = q8a8_half_to_float(load_half(block));
        const int8_t *q = (const int8_t *)(block + 2);
        for (int j = 0; j < QK8_A8; ++j) {
            y[j] = d * (float)q[j];
        }
    }
}

/* sum = f32(sum + f32(f32(sumi) * f32(dx * dy))), block after block (Q8A8-DOT-2, Q8A8-DOT-3). */
static float dot(int n, const uint8_t *x, const uint8_t *y, size_t bytes, size_t y_scale, size_t codes) {
    float sum = 0.0f;
    for (int b = 0; b < n / QK8_A8; ++b, x += bytes, y += bytes) {
        const int32_t sumi = block_sum((const int8_t *)(x + codes), (const int8_t *)(y + codes));
        const float dx = q8a8_half_to_float(load_half(x));
        const float dy = q8a8_half_to_float(load_half(y + y_scale));
        sum = sum + (float)sumi * (dx * dy);
    }
    return sum;
}

EXPORT void ggml_vec_dot_q8_a8_q8_a8(int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy, size_t by,
                                     int nrc) {
    const uint8_t *x = vx;
    const uint8_t *y = vy;
    s[0] = dot(n, x, y, Q8A8_BLOCK_BYTES, 0, 2);
    if (nrc == 2) { /* Q8A8-DOT-6; with nrc = 1, bs, bx and by are ignored (Q8A8-DOT-12) */
        s[1] = dot(n, x + bx, y, Q8A8_BLOCK_BYTES, 0, 2);
        s[bs] = dot(n, x, y + by, Q8A8_BLOCK_BYTES, 0, 2);
        s[bs + 1] = dot(n, x + bx, y + by, Q8A8_BLOCK_BYTES, 0, 2);
    }
}

EXPORT void ggml_vec_dot_q8_a8_q8_a8_real(int n, float *s, const void *vx, const void *vy) {
    s[0] = dot(n, vx, vy, Q8A8_V2_BLOCK_BYTES, 2, 4); /* x's weight_scale, y's activation_scale (Q8A8-DOT-9) */
}
