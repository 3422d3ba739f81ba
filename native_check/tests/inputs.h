/* Inputs for kernels: floats of every class that matters to a quantizer, and blocks of any content. */
#ifndef Q8A8_TESTS_INPUTS_H
#define Q8A8_TESTS_INPUTS_H

#include "check.h"
#include "q8a8.h"

/* The ways to fill a block of floats; the last three are outside the domain (Q8A8-QNT-11). */
enum flavour {
    UNIFORM,
    WIDE,        /* widely different exponents */
    TIES,        /* amax = 127 * 2^e and (k + 1/2) * 2^e: x * inv is a tie */
    NEAR_TIES,   /* one ulp beside */
    TINY,        /* around the smallest scale, 127 * 2^-25, and below */
    ZEROS,       /* of both signs */
    SUBNORMALS,  /* of float */
    LARGE,       /* up to the largest scale, just below 65520 * 127 */
    FLAVOURS_IN_DOMAIN,
    HUGE_VALUES = FLAVOURS_IN_DOMAIN, /* the scale overflows */
    INFINITIES,
    ANY_BITS, /* NaNs too */
    FLAVOURS
};

static inline float random_unit(void) { /* -1 .. 1 */
    return (float)(int32_t)(uint32_t)random_u64() * 0x1p-31f;
}

/* 2^e for a float in the normal range. */
static inline float power(int e) {
    return float_of((uint32_t)(127 + e) << 23);
}

static inline float random_float(enum flavour flavour, int e, size_t j) {
    const float unit = random_unit();
    switch (flavour) {
    case UNIFORM:
        return unit * power(e);
    case WIDE:
        return unit * power((int)random_below(40) - 20);
    case TIES:
    case NEAR_TIES: {
        const float tie = ((float)(int)random_below(127) + 0.5f) * power(e);
        const uint32_t off = flavour == NEAR_TIES ? random_below(3) - 1 : 0;
        const float x = j == 0 ? 127.0f * power(e) : float_of(bits_of(tie) + off);
        return unit < 0 ? -x : x;
    }
    case TINY:
        return unit * 127.0f * 0x1p-25f * power((int)random_below(4) - 1);
    case ZEROS:
        return unit < 0 ? -0.0f : 0.0f;
    case SUBNORMALS:
        return float_of((uint32_t)random_u64() & 0x807fffffu);
    case LARGE:
        return unit * 65519.0f * 127.0f;
    case HUGE_VALUES:
        return unit * 3e38f;
    case INFINITIES:
        return random_below(8) == 0 ? float_of(unit < 0 ? 0xff800000u : 0x7f800000u) : unit;
    default:
        return float_of((uint32_t)random_u64());
    }
}

static inline void fill_floats(float *x, size_t count, enum flavour flavour) {
    const int e = (int)random_below(24) - 12;
    for (size_t j = 0; j < count; ++j) {
        x[j] = random_float(flavour, e, j % QK8_A8);
    }
}

/* A finite half, of any kind. */
static inline uint16_t random_half(void) {
    uint16_t half;
    do {
        half = (uint16_t)random_u64();
    } while ((half & 0x7c00) == 0x7c00);
    return half;
}

/* Blocks with any finite scales and any integers; -128 alone in some (Q8A8-DOT-1, Q8A8-DOT-8). Scales of a
 * 36-byte block that the other side reads are finite too; `ignored` is the offset of the unused one. */
static inline void fill_blocks(uint8_t *block, size_t count, size_t bytes, size_t ignored) {
    for (; count > 0; --count, block += bytes) {
        const uint32_t kind = random_below(8);
        for (size_t j = 0; j < bytes; ++j) {
            block[j] = kind == 0 ? 0x80 : kind == 1 ? 0x7f : (uint8_t)random_u64();
        }
        for (size_t scale = 0; scale < bytes - QK8_A8; scale += 2) {
            const uint16_t half = scale == ignored ? 0x7e55 /* a NaN */ : random_half();
            block[scale] = (uint8_t)(half & 0xff);
            block[scale + 1] = (uint8_t)(half >> 8);
        }
    }
}

#endif
