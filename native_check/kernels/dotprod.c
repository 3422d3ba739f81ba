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

#include "arm_rows.h"

extern const struct q8a8_kernel q8a8_kernel_dotprod;
const struct q8a8_kernel q8a8_kernel_dotprod = {
    .name = "dotprod",
    .needs = {"asimd", "asimddp"},
    .vec_dot = arm_vec_dot,
    ARM_KERNEL_FUNCTIONS,
};
