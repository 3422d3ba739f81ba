/* Plain NEON, for any 64-bit Arm processor (Cortex-A53, A57, A72 ...). */
#include "neon_values.h"

/* A product of any two int8 is at most 128 * 128 = 2^14 and fits int16, but the sum of two may not: twice -128 * -128
 * is 2^15. So products are not added in int16 lanes: SADALP adds pairs of them to int32 lanes, which hold the sum of
 * a block, |sumi| <= 2^19 (Q8A8-DOT-1). */
static inline int32_t block_sum(const int8_t *qx, const int8_t *qy) {
    int32x4_t sums = vdupq_n_s32(0);
    for (size_t j = 0; j < QK8_A8; j += 8) {
        sums = vpadalq_s16(sums, vmull_s8(vld1_s8(qx + j), vld1_s8(qy + j)));
    }
    return vaddvq_s32(sums);
}

#include "rows.h"

enum { GROUP = 2 };

/* A line of the tile has two elements of each row: their products are neighbours in int16. The quantizer makes no -128
 * (Q8A8-QNT-5), so that two products, at most 2 * 128 * 127 < 2^15, fit, and only every other one is widened. */
ALWAYS_INLINE void block_sums(const int8_t *w, const int8_t *const *q, size_t count, int32x4_t sumi[][2]) {
    UNROLL
    for (size_t c = 0; c < count; ++c) {
        sumi[c][0] = sumi[c][1] = vdupq_n_s32(0);
    }
#define TWO_LINES(i)                                                                                                   \
    {                                                                                                                  \
        const int8x16_t w0 = vld1q_s8(w + (i) * 16);                                                                   \
        const int8x16_t w1 = vld1q_s8(w + (i) * 16 + 16);                                                              \
        UNROLL                                                                                                         \
        for (size_t c = 0; c < count; ++c) {                                                                           \
            const int8x16_t x = vld1q_s8(q[c] + ((i) < 8 ? 0 : 16));                                                   \
            const int8x16_t x0 = vreinterpretq_s8_s16(vdupq_laneq_s16(vreinterpretq_s16_s8(x), (i) % 8));              \
            const int8x16_t x1 = vreinterpretq_s8_s16(vdupq_laneq_s16(vreinterpretq_s16_s8(x), (i) % 8 + 1));          \
            const int16x8_t low = vmull_s8(vget_low_s8(w0), vget_low_s8(x0));                                          \
            const int16x8_t high = vmull_high_s8(w0, x0);                                                              \
            sumi[c][0] = vpadalq_s16(sumi[c][0], vmlal_s8(low, vget_low_s8(w1), vget_low_s8(x1)));                     \
            sumi[c][1] = vpadalq_s16(sumi[c][1], vmlal_high_s8(high, w1, x1));                                         \
        }                                                                                                              \
    }
    TWO_LINES(0)
    TWO_LINES(2)
    TWO_LINES(4)
    TWO_LINES(6)
    TWO_LINES(8)
    TWO_LINES(10)
    TWO_LINES(12)
    TWO_LINES(14)
}

#include "neon_tile.h"

static const struct q8a8_product neon_product = NEON_PRODUCT;

static void neon_mul_mat(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out) {
    q8a8_product_mul_mat(&neon_product, m, n, k, w, x, out);
}

extern const struct q8a8_kernel q8a8_kernel_neon;
const struct q8a8_kernel q8a8_kernel_neon = {
    .name = "neon",
    .needs = {"asimd"},
    .vec_dot = rows_vec_dot,
    .mul_mat = neon_mul_mat,
    .product = &neon_product,
    ROWS_KERNEL_FUNCTIONS,
};
