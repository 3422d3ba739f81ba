/* NEON with SMMLA, for Armv8.6 processors with the i8mm feature (Cortex-A510, X2, Neoverse V1 ...).
 *
 * SMMLA takes two 2 x 8 matrices of int8 and adds A * B^T to a 2 x 2 matrix of int32:
 *
 *       A              B              acc
 *     +--------+     +--------+     +-------------+-------------+
 *     | row a0 |     | row b0 |     | 0: a0 . b0  | 1: a0 . b1  |
 *     | row a1 |     | row b1 |     | 2: a1 . b0  | 3: a1 . b1  |
 *     +--------+     +--------+     +-------------+-------------+
 */
#include "neon_values.h"

/* One row by one row: the halves of each 16 bytes are the matrix rows, and the result is the trace. */
static inline int32_t block_sum(const int8_t *qx, const int8_t *qy) {
    int32x4_t sums = vdupq_n_s32(0);
    for (size_t j = 0; j < QK8_A8; j += 16) {
        sums = vmmlaq_s32(sums, vld1q_s8(qx + j), vld1q_s8(qy + j));
    }
    return vgetq_lane_s32(sums, 0) + vgetq_lane_s32(sums, 3);
}

#include "rows.h"

static inline int8x16_t two_rows(const uint8_t *row0, const uint8_t *row1, size_t j) {
    return vcombine_s8(vld1_s8((const int8_t *)(row0 + j)), vld1_s8((const int8_t *)(row1 + j)));
}

/* Two rows by two rows (Q8A8-DOT-6), each lane in the scalar order (Q8A8-DOT-11).
 * Returns {x0.y0, x0.y1, x1.y0, x1.y1}. */
static float32x4_t dot_2x2(int n, const uint8_t *x0, const uint8_t *x1, const uint8_t *y0, const uint8_t *y1) {
    float32x4_t sums = vdupq_n_f32(0.0f);
    for (int b = 0; b < n / QK8_A8; ++b) {
        int32x4_t sumi = vdupq_n_s32(0);
        for (size_t j = V1_QS; j < Q8A8_BLOCK_BYTES; j += 8) {
            sumi = vmmlaq_s32(sumi, two_rows(x0, x1, j), two_rows(y0, y1, j));
        }
        uint16x4_t halves = vdup_n_u16(load_half(x0));
        halves = vset_lane_u16(load_half(x1), halves, 1);
        halves = vset_lane_u16(load_half(y0), halves, 2);
        halves = vset_lane_u16(load_half(y1), halves, 3);
        const float32x4_t scales = arm_floats_of_halves(halves);
        const float32x4_t dx = vzip1q_f32(scales, scales);                                   /* x0 x0 x1 x1 */
        const float32x4_t dy = vcombine_f32(vget_high_f32(scales), vget_high_f32(scales)); /* y0 y1 y0 y1 */
        /* sum = f32(sum + f32(f32(sumi) * f32(dx * dy))): two roundings, so not vmlaq or vfmaq */
        sums = vaddq_f32(sums, vmulq_f32(vcvtq_f32_s32(sumi), vmulq_f32(dx, dy)));
        x0 += Q8A8_BLOCK_BYTES;
        x1 += Q8A8_BLOCK_BYTES;
        y0 += Q8A8_BLOCK_BYTES;
        y1 += Q8A8_BLOCK_BYTES;
    }
    return sums;
}

static void i8mm_vec_dot(int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy, size_t by, int nrc) {
    const uint8_t *x = vx;
    const uint8_t *y = vy;
    if (nrc == 2) {
        const float32x4_t sums = dot_2x2(n, x, x + bx, y, y + by);
        s[0] = vgetq_lane_f32(sums, 0);
        s[1] = vgetq_lane_f32(sums, 2);
        s[bs] = vgetq_lane_f32(sums, 1);
        s[bs + 1] = vgetq_lane_f32(sums, 3);
    } else {
        s[0] = rows_dot_v1(n, x, y);
    }
}

enum { GROUP = 8 };

/* A line of the tile has eight elements of each row: four matrices of two rows. The other factor is two rows of x; a last
 * single one takes both places. */
ALWAYS_INLINE void block_sums(const int8_t *w, const int8_t *const *q, size_t count, int32x4_t sumi[][2]) {
    UNROLL
    for (size_t c = 0; c < count; c += 2) {
        const size_t other = c + 1 < count ? c + 1 : c;
        int32x4_t of_rows[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
        UNROLL
        for (size_t j = 0; j < QK8_A8; j += GROUP) {
            const int8x16_t x = vcombine_s8(vld1_s8(q[c] + j), vld1_s8(q[other] + j));
            UNROLL
            for (size_t pair = 0; pair < 4; ++pair) {
                of_rows[pair] = vmmlaq_s32(of_rows[pair], x, vld1q_s8(w + j * 8 + pair * 16));
            }
        }
        /* {x0.w0, x0.w1, x1.w0, x1.w1}, {x0.w2, ...} -> {x0.w0, x0.w1, x0.w2, x0.w3}, {x1.w0, ...} */
        UNROLL
        for (size_t half = 0; half < 2; ++half) {
            const int64x2_t low = vreinterpretq_s64_s32(of_rows[2 * half]);
            const int64x2_t high = vreinterpretq_s64_s32(of_rows[2 * half + 1]);
            sumi[other][half] = vreinterpretq_s32_s64(vzip2q_s64(low, high));
            sumi[c][half] = vreinterpretq_s32_s64(vzip1q_s64(low, high));
        }
    }
}

#include "neon_tile.h"

static const struct q8a8_product i8mm_product = NEON_PRODUCT;

static void i8mm_mul_mat(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out) {
    q8a8_product_mul_mat(&i8mm_product, m, n, k, w, x, out);
}

extern const struct q8a8_kernel q8a8_kernel_i8mm;
const struct q8a8_kernel q8a8_kernel_i8mm = {
    .name = "i8mm",
    .needs = {"asimd", "i8mm"},
    .vec_dot = i8mm_vec_dot,
    .mul_mat = i8mm_mul_mat,
    .product = &i8mm_product,
    ROWS_KERNEL_FUNCTIONS,
};
