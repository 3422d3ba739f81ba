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

static const struct q8a8_product dotprod_product = ROWS_PRODUCT;

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
