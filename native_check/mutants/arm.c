/* Mutants of NEON kernels: lanes, widths, signs, rounding. */
#include "neon_values.h"
#include "rows.h"

#include <stdbool.h>

/* The products of a block, eight at a time, as int16: none overflows. */
static int16x8_t products(const int8_t *qx, const int8_t *qy, size_t j) {
    return vmull_s8(vld1_s8(qx + j), vld1_s8(qy + j));
}

/* Two products are added in int16 lanes: -128 * -128 twice is one too much. */
static int32_t two_in_16_bits(const int8_t *qx, const int8_t *qy) {
    int32x4_t sums = vdupq_n_s32(0);
    for (size_t j = 0; j < QK8_A8; j += 16) {
        sums = vpadalq_s16(sums, vmlal_s8(products(qx, qy, j), vld1_s8(qx + j + 8), vld1_s8(qy + j + 8)));
    }
    return vaddvq_s32(sums);
}
MUTANT_DOT(two_in_16_bits, "asimd");

/* All products are added in int16 lanes. */
static int32_t all_in_16_bits(const int8_t *qx, const int8_t *qy) {
    int16x8_t sums = vdupq_n_s16(0);
    for (size_t j = 0; j < QK8_A8; j += 8) {
        sums = vmlal_s8(sums, vld1_s8(qx + j), vld1_s8(qy + j));
    }
    return vaddlvq_s16(sums);
}
MUTANT_DOT(all_in_16_bits, "asimd");

/* Pairs of products are widened as if they were unsigned. */
static int32_t widens_unsigned(const int8_t *qx, const int8_t *qy) {
    uint32x4_t sums = vdupq_n_u32(0);
    for (size_t j = 0; j < QK8_A8; j += 8) {
        sums = vpadalq_u16(sums, vreinterpretq_u16_s16(products(qx, qy, j)));
    }
    return vaddvq_s32(vreinterpretq_s32_u32(sums));
}
MUTANT_DOT(widens_unsigned, "asimd");

/* The lower half of each register is multiplied twice, the upper half never. */
static int32_t low_twice(const int8_t *qx, const int8_t *qy) {
    int32x4_t sums = vdupq_n_s32(0);
    for (size_t j = 0; j < QK8_A8; j += 16) {
        const int8x16_t x = vld1q_s8(qx + j);
        const int8x16_t y = vld1q_s8(qy + j);
        sums = vpadalq_s16(sums, vmull_s8(vget_low_s8(x), vget_low_s8(y)));
        sums = vpadalq_s16(sums, vmull_s8(vget_low_s8(x), vget_low_s8(y)));
    }
    return vaddvq_s32(sums);
}
MUTANT_DOT(low_twice, "asimd");

/* The halves of y are loaded the other way round. */
static int32_t halves_swapped(const int8_t *qx, const int8_t *qy) {
    int32x4_t sums = vdupq_n_s32(0);
    for (size_t j = 0; j < QK8_A8; j += 8) {
        sums = vpadalq_s16(sums, vmull_s8(vld1_s8(qx + j), vld1_s8(qy + (j ^ 8))));
    }
    return vaddvq_s32(sums);
}
MUTANT_DOT(halves_swapped, "asimd");

/* Pairs are folded once too seldom: lanes 2 and 3 are lost. */
static int32_t fold_short(const int8_t *qx, const int8_t *qy) {
    int32x4_t sums = vdupq_n_s32(0);
    for (size_t j = 0; j < QK8_A8; j += 8) {
        sums = vpadalq_s16(sums, products(qx, qy, j));
    }
    return vaddv_s32(vget_low_s32(sums));
}
MUTANT_DOT(fold_short, "asimd");

#define DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
#define I8MM __attribute__((target("arch=armv8.2-a+i8mm")))

/* UDOT instead of SDOT. */
DOTPROD static int32_t dot_unsigned(const int8_t *qx, const int8_t *qy) {
    uint32x4_t sums = vdupq_n_u32(0);
    for (size_t j = 0; j < QK8_A8; j += 16) {
        sums = vdotq_u32(sums, vreinterpretq_u8_s8(vld1q_s8(qx + j)), vreinterpretq_u8_s8(vld1q_s8(qy + j)));
    }
    return vaddvq_s32(vreinterpretq_s32_u32(sums));
}
MUTANT_DOT(dot_unsigned, "asimddp");

/* The integers of two rows by two rows, one block: {x0.y0, x0.y1, x1.y0, x1.y1}; USMMLA takes x as unsigned. */
I8MM static void sums_2x2(const int8_t *x0, const int8_t *x1, const int8_t *y0, const int8_t *y1, bool is_unsigned,
                          int32_t out[4]) {
    int32x4_t sums = vdupq_n_s32(0);
    for (size_t j = 0; j < QK8_A8; j += 8) {
        const int8x16_t x = vcombine_s8(vld1_s8(x0 + j), vld1_s8(x1 + j));
        const int8x16_t y = vcombine_s8(vld1_s8(y0 + j), vld1_s8(y1 + j));
        sums = is_unsigned ? vusmmlaq_s32(sums, vreinterpretq_u8_s8(x), y) : vmmlaq_s32(sums, x, y);
    }
    vst1q_s32(out, sums);
}

/* out: {x0.y0, x0.y1, x1.y0, x1.y1} */
static void dot_2x2(int n, const uint8_t *x, size_t bx, const uint8_t *y, size_t by, bool is_unsigned, float out[4]) {
    memset(out, 0, 4 * sizeof *out);
    for (int b = 0; b < n / QK8_A8; ++b, x += Q8A8_BLOCK_BYTES, y += Q8A8_BLOCK_BYTES) {
        int32_t sums[4];
        sums_2x2((const int8_t *)(x + V1_QS), (const int8_t *)(x + bx + V1_QS), (const int8_t *)(y + V1_QS),
                 (const int8_t *)(y + by + V1_QS), is_unsigned, sums);
        for (size_t i = 0; i < 4; ++i) {
            const float dx = q8a8_half_to_float(rows_half(x + i / 2 * bx));
            const float dy = q8a8_half_to_float(rows_half(y + i % 2 * by));
            out[i] = out[i] + (float)sums[i] * (dx * dy);
        }
    }
}

/* SMMLA's rows are x's, so that lane 1 is x0.y1: it is stored where x1.y0 belongs. */
static void swapped(DOT_PARAMETERS) {
    float out[4];
    if (nrc != 2) {
        plain_vec_dot(DOT_ARGUMENTS);
        return;
    }
    dot_2x2(n, vx, bx, vy, by, false, out);
    s[0] = out[0];
    s[1] = out[1];
    s[bs] = out[2];
    s[bs + 1] = out[3];
}
MUTANT(swapped, .vec_dot = swapped, .needs = {"i8mm"});

/* USMMLA instead of SMMLA. */
static void matrix_unsigned(DOT_PARAMETERS) {
    float out[4];
    if (nrc != 2) {
        plain_vec_dot(DOT_ARGUMENTS);
        return;
    }
    dot_2x2(n, vx, bx, vy, by, true, out);
    s[0] = out[0];
    s[1] = out[2];
    s[bs] = out[1];
    s[bs + 1] = out[3];
}
MUTANT(matrix_unsigned, .vec_dot = matrix_unsigned, .needs = {"i8mm"});

/* The scalar kernel's scale, and codes by another conversion of f32(x * inv). */
#define QUANTIZER(id, conversion)                                                                                      \
    static uint16_t id(const float *x, int8_t *q) {                                                                    \
        const float amax = rows_amax(x);                                                                               \
        const uint16_t h = q8a8_float_to_half(amax / 127.0f);                                                          \
        const float inv = h != 0 ? 127.0f / amax : 0.0f;                                                               \
        for (size_t j = 0; j < QK8_A8; j += 8) {                                                                       \
            const int32x4_t low = conversion(vmulq_n_f32(vld1q_f32(x + j), inv));                                      \
            const int32x4_t high = conversion(vmulq_n_f32(vld1q_f32(x + j + 4), inv));                                 \
            vst1_s8(q + j, vqmovn_s16(vcombine_s16(vqmovn_s32(low), vqmovn_s32(high))));                               \
        }                                                                                                              \
        return h;                                                                                                      \
    }                                                                                                                  \
    MUTANT_QUANTIZER(id, "asimd")

/* FCVTNS: halves to even. */
QUANTIZER(to_even, vcvtnq_s32_f32);

/* FCVTZS, what a C cast is: towards zero. */
QUANTIZER(to_zero, vcvtq_s32_f32);

/* FCVTMS after half was added: right for positive elements, and for negative ones but on ties. */
#define FLOOR_OF_HALF_MORE(v) vcvtmq_s32_f32(vaddq_f32(v, vdupq_n_f32(0.5f)))
QUANTIZER(floor_half, FLOOR_OF_HALF_MORE);

/* The inverse is the processor's estimate after one step of Newton's. */
static uint16_t estimated(const float *x, int8_t *q) {
    const float amax = rows_amax(x);
    const uint16_t h = q8a8_float_to_half(amax / 127.0f);
    const float32x2_t a = vdup_n_f32(amax);
    float32x2_t r = vrecpe_f32(a);
    r = vmul_f32(r, vrecps_f32(a, r));
    const float inv = h != 0 ? 127.0f * vget_lane_f32(r, 0) : 0.0f;
    for (size_t j = 0; j < QK8_A8; j += 8) {
        neon_quantize_8(x + j, inv, q + j);
    }
    return h;
}
MUTANT_QUANTIZER(estimated, "asimd");
