/* Plain NEON, for any 64-bit Arm processor (Cortex-A53, A57, A72 ...). */
#include "neon_values.h"

/* A product of two int8 is at most 128 * 128 = 2^14 and fits int16, but the sum of two may not: twice -128 * -128
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

static const struct q8a8_product neon_product = ROWS_PRODUCT;

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
