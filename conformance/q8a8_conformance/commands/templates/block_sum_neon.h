/* The exact sum of a block's 32 products, for any 64-bit Arm processor (Q8A8-DOT-1).
 * Two products of -128 * -128 do not fit int16 together: SADALP adds pairs of products to int32 lanes. */
#include <arm_neon.h>

static inline int32_t block_sum(const int8_t *x, const int8_t *y) {
    int32x4_t sums = vdupq_n_s32(0);
    for (int j = 0; j < QK8_A8; j += 8) {
        sums = vpadalq_s16(sums, vmull_s8(vld1_s8(x + j), vld1_s8(y + j)));
    }
    return vaddvq_s32(sums);
}
