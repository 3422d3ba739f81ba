/* NEON with SDOT, for Armv8.2 processors with the dotprod feature (Cortex-A55, A76, Neoverse N1 ...). */
#include "neon_values.h"

/* SDOT adds four products of int8 into each int32 lane: exact for any int8 (Q8A8-DOT-1). */
static inline int32_t block_sum(const int8_t *qx, const int8_t *qy) {
    int32x4_t sums = vdupq_n_s32(0);
    for (size_t j = 0; j < QK8_A8; j += 16) {
        sums = vdotq_s32(sums, vld1q_s8(qx + j), vld1q_s8(qy + j));
    }
    return vaddvq_s32(sums);
}

#include "rows.h"

enum { GROUP = 4 };

/* A line of the tile has four elements of each row, which a lane multiplies by the same four of x. */
ALWAYS_INLINE void block_sums(const int8_t *w, const int8_t *const *q, size_t count, int32x4_t sumi[][2]) {
    UNROLL
    for (size_t c = 0; c < count; ++c) {
        sumi[c][0] = sumi[c][1] = vdupq_n_s32(0);
    }
#define LINE(i)                                                                                                        \
    {                                                                                                                  \
        const int8x16_t w0 = vld1q_s8(w + (i) * 32);                                                                   \
        const int8x16_t w1 = vld1q_s8(w + (i) * 32 + 16);                                                              \
        UNROLL                                                                                                         \
        for (size_t c = 0; c < count; ++c) {                                                                           \
            const int8x16_t x = vld1q_s8(q[c] + ((i) < 4 ? 0 : 16));                                                   \
            sumi[c][0] = vdotq_laneq_s32(sumi[c][0], w0, x, (i) % 4);                                                  \
            sumi[c][1] = vdotq_laneq_s32(sumi[c][1], w1, x, (i) % 4);                                                  \
        }                                                                                                              \
    }
    LINE(0)
    LINE(1)
    LINE(2)
    LINE(3)
    LINE(4)
    LINE(5)
    LINE(6)
    LINE(7)
}

#include "neon_tile.h"

static const struct q8a8_product dotprod_product = NEON_PRODUCT;

static void dotprod_mul_mat(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out) {
    q8a8_product_mul_mat(&dotprod_product, m, n, k, w, x, out);
}

extern const struct q8a8_kernel q8a8_kernel_dotprod;
const struct q8a8_kernel q8a8_kernel_dotprod = {
    .name = "dotprod",
    .needs = {"asimd", "asimddp"},
    .vec_dot = rows_vec_dot,
    .mul_mat = dotprod_mul_mat,
    .product = &dotprod_product,
    ROWS_KERNEL_FUNCTIONS,
};
