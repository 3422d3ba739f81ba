/* What the 64-bit Arm kernels share: half conversions. */
#ifndef Q8A8_ARM_H
#define Q8A8_ARM_H

#include "kernel.h"

#include <arm_neon.h>
#include <string.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Half conversions use FCVT, which the architecture defines as required here: to nearest, ties to even, with
 * subnormal halves whatever FPCR.FZ and FPCR.FZ16 are (both are ignored for the half operand of a conversion:
 * FPUnpackCV and FPRoundCV in the Arm ARM; FZ does flush a subnormal f32 operand, but that rounds to the half 0
 * anyway). Only FPCR.AHP would change them, and the procedure call standard requires it to be 0 on entry.
 * (Q8A8-HLF-1 to Q8A8-HLF-4) */
static inline float32x4_t arm_floats_of_halves(uint16x4_t halves) {
    return vcvt_f32_f16(vreinterpret_f16_u16(halves));
}

static inline float float_of_half(uint16_t half) {
    return vgetq_lane_f32(arm_floats_of_halves(vdup_n_u16(half)), 0);
}

static inline uint16_t arm_half_of_float(float x) {
    return vget_lane_u16(vreinterpret_u16_f16(vcvt_f16_f32(vdupq_n_f32(x))), 0);
}

#endif
