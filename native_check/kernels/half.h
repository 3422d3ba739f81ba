/* binary16 <-> binary32 in integer arithmetic: exact on any machine, in any floating-point mode. */
#ifndef Q8A8_HALF_H
#define Q8A8_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t q8a8_bits_of_float(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float q8a8_float_of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* f32(h), exact for every half, subnormals included (Q8A8-HLF-2, Q8A8-HLF-3). */
static inline float q8a8_half_to_float(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t exponent = (h >> 10) & 0x1fu;
    const uint32_t fraction = h & 0x3ffu;

    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24, a normal f32, so the product is exact */
        return q8a8_float_of_bits(sign | q8a8_bits_of_float((float)fraction * 0x1p-24f));
    }
    if (exponent == 0x1f) { /* infinity, or a NaN with its payload */
        return q8a8_float_of_bits(sign | 0x7f800000u | fraction << 13);
    }
    return q8a8_float_of_bits(sign | (exponent + (127 - 15)) << 23 | fraction << 13);
}

/* value / 2^shift to nearest, ties to even; 1 <= shift <= 31. */
static inline uint32_t q8a8_shift_to_even(uint32_t value, uint32_t shift) {
    const uint32_t whole = value >> shift;
    const uint32_t rest = value & ((UINT32_C(1) << shift) - 1);
    const uint32_t half = UINT32_C(1) << (shift - 1);
    return whole + (rest > half || (rest == half && (whole & 1u)));
}

/* f16(x): to nearest, ties to even, subnormals kept, infinity from 65520 on (Q8A8-HLF-1, 2, 4). */
static inline uint16_t q8a8_float_to_half(float x) {
    const uint32_t bits = q8a8_bits_of_float(x);
    const uint32_t sign = bits >> 16 & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    uint32_t half;

    if (magnitude > 0x7f800000u) { /* a NaN: quiet, with the top of its payload */
        half = 0x7e00u | (magnitude >> 13 & 0x1ffu);
    } else if (magnitude >= 0x477ff000u) { /* 65520 = 65504 + half a step: the tie goes to infinity */
        half = 0x7c00u;
    } else if (magnitude >= 0x38800000u) { /* 2^-14 and up: drop 13 fraction bits; a carry moves the exponent */
        half = q8a8_shift_to_even(magnitude - ((UINT32_C(127) - 15) << 23), 13);
    } else if (magnitude >= 0x33000000u) { /* 2^-25 and up: so many 2^-24; 1.f * 2^(e-127) = s * 2^(e-126) * 2^-24 */
        const uint32_t exponent = magnitude >> 23;
        const uint32_t significand = (magnitude & 0x7fffffu) | 0x800000u;
        half = q8a8_shift_to_even(significand, 126 - exponent);
    } else { /* below half of the smallest subnormal */
        half = 0;
    }
    return (uint16_t)(sign | half);
}

#endif
