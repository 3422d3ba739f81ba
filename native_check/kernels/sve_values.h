/* What the kernels for SVE share: quantization, dequantization and the sum of a block, for vectors of any length, bit-identical to the scalar kernel. */
#ifndef Q8A8_SVE_VALUES_H
#define Q8A8_SVE_VALUES_H

#include "arm.h"

#include <arm_sve.h>

/* Quantize count floats under one scale; returns the scale (Q8A8-QNT-1 to Q8A8-QNT-6). Predicated loads and stores
 * leave alone what lies past count. */
static inline uint16_t quantize_values(const float *x, int8_t *q, size_t count) {
    /* amax = max |x_j| */
    svfloat32_t amaxes = svdup_f32(0.0f);
    for (uint64_t j = 0; j < count; j += svcntw()) {
        const svbool_t present = svwhilelt_b32(j, (uint64_t)count);
        amaxes = svmax_m(present, amaxes, svabs_x(present, svld1(present, x + j)));
    }
    const float amax = svmaxv(svptrue_b32(), amaxes);
    /* d = f32(amax / 127), h = f16(d), inv = f32(127 / amax) if h != 0 else 0 */
    const uint16_t h = arm_half_of_float(amax / 127.0f);
    const float inv = h != 0 ? 127.0f / amax : 0.0f;
    /* q_j = roundf(f32(x_j * inv)): FRINTA rounds halves away from zero (Q8A8-QNT-4) */
    for (uint64_t j = 0; j < count; j += svcntw()) {
        const svbool_t present = svwhilelt_b32(j, (uint64_t)count);
        const svfloat32_t whole = svrinta_x(present, svmul_x(present, svld1(present, x + j), inv));
        svst1b(present, q + j, svcvt_s32_x(present, whole));
    }
    return h;
}

/* y_j = f32(h) * q_j for the 32 elements of a block, exact (Q8A8-DEQ-1). */
static inline void dequantize_block(uint16_t half, const int8_t *q, float *y) {
    const float d = float_of_half(half);
    for (uint64_t j = 0; j < QK8_A8; j += svcntw()) {
        const svbool_t present = svwhilelt_b32(j, (uint64_t)QK8_A8);
        svst1(present, y + j, svmul_x(present, svcvt_f32_x(present, svld1sb_s32(present, q + j)), d));
    }
}

/* SDOT adds four products of int8 into each int32 lane: exact for any int8 (Q8A8-DOT-1). Vectors longer than a block
 * have zeros past it. */
static inline int32_t block_sum(const int8_t *qx, const int8_t *qy) {
    svint32_t sums = svdup_s32(0);
    for (uint64_t j = 0; j < QK8_A8; j += svcntb()) {
        const svbool_t present = svwhilelt_b8(j, (uint64_t)QK8_A8);
        sums = svdot(sums, svld1(present, qx + j), svld1(present, qy + j));
    }
    return (int32_t)svaddv(svptrue_b32(), sums);
}

#endif
