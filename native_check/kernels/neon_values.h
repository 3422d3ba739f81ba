/* Quantization and dequantization of a block by NEON, bit-identical to the scalar kernel. */
#ifndef Q8A8_NEON_VALUES_H
#define Q8A8_NEON_VALUES_H

#include "arm.h"

/* q_j = roundf(f32(x_j * inv)) for eight elements: FCVTAS rounds halves away from zero (Q8A8-QNT-4), and
 * converts a NaN to 0. In the domain |x_j * inv| < 127.5, so that the narrowing is exact. */
static inline void neon_quantize_8(const float *x, float inv, int8_t *q) {
    const int32x4_t low = vcvtaq_s32_f32(vmulq_n_f32(vld1q_f32(x), inv));
    const int32x4_t high = vcvtaq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4), inv));
    vst1_s8(q, vqmovn_s16(vcombine_s16(vqmovn_s32(low), vqmovn_s32(high))));
}

/* Quantize count floats under one scale; returns the scale (Q8A8-QNT-1 to Q8A8-QNT-6). */
static inline uint16_t quantize_values(const float *x, int8_t *q, size_t count) {
    const size_t tail = count % 8;
    const size_t whole = count - tail;
    float last[8] = {0}; /* the tail, padded with zeros: never read past count */
    int8_t last_q[8];
    if (tail != 0) {
        memcpy(last, x + whole, tail * sizeof *x);
    }
    /* amax = max |x_j| */
    float32x4_t amaxes = vmaxq_f32(vabsq_f32(vld1q_f32(last)), vabsq_f32(vld1q_f32(last + 4)));
    for (size_t j = 0; j < whole; j += 4) {
        amaxes = vmaxq_f32(amaxes, vabsq_f32(vld1q_f32(x + j)));
    }
    const float amax = vmaxvq_f32(amaxes);
    /* d = f32(amax / 127), h = f16(d), inv = f32(127 / amax) if h != 0 else 0 */
    const uint16_t h = arm_half_of_float(amax / 127.0f);
    const float inv = h != 0 ? 127.0f / amax : 0.0f;
    for (size_t j = 0; j < whole; j += 8) {
        neon_quantize_8(x + j, inv, q + j);
    }
    if (tail != 0) {
        neon_quantize_8(last, inv, last_q);
        memcpy(q + whole, last_q, tail);
    }
    return h;
}

/* y_j = f32(h) * q_j for the 32 elements of a block, exact (Q8A8-DEQ-1). */
static inline void dequantize_block(uint16_t half, const int8_t *q, float *y) {
    const float d = float_of_half(half);
    for (size_t j = 0; j < QK8_A8; j += 8) {
        const int16x8_t wide = vmovl_s8(vld1_s8(q + j));
        vst1q_f32(y + j, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))), d));
        vst1q_f32(y + j + 4, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_high_s16(wide))), d));
    }
}

#endif
