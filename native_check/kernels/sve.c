/* SVE with SDOT, for vectors of any length (Neoverse V1 and V2, Cortex-X2, A64FX ...). SVE2 adds no instruction that a
 * product of int8 needs. */
#include "sve_values.h"

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

#include "rows.h"

static const struct q8a8_product sve_product = ROWS_PRODUCT;

static void sve_mul_mat(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out) {
    q8a8_product_mul_mat(&sve_product, m, n, k, w, x, out);
}

extern const struct q8a8_kernel q8a8_kernel_sve;
const struct q8a8_kernel q8a8_kernel_sve = {
    .name = "sve",
    .needs = {"asimd", "sve"},
    .vec_dot = rows_vec_dot,
    .mul_mat = sve_mul_mat,
    .product = &sve_product,
    ROWS_KERNEL_FUNCTIONS,
};
