/* kernels/half.h equals independent definitions: scaling by powers of two in double, in which halves are exact. */
#include "check.h"
#include "half.h"

#include <math.h>

/* The value of a finite half, from IEEE 754's definition. */
static double value_of(uint16_t half) {
    const int exponent = half >> 10 & 0x1f;
    const int fraction = half & 0x3ff;
    const double magnitude = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
    return half & 0x8000 ? -magnitude : magnitude;
}

/* f16(x) for a finite x: the spacing of halves around x, then nearbyint, which is ties to even. */
static uint16_t rounded(double x) {
    const double magnitude = fabs(x);
    const unsigned sign = signbit(x) ? 0x8000 : 0;
    int exponent = -14;
    if (magnitude >= 65520.0) {
        return (uint16_t)(sign | 0x7c00);
    }
    if (magnitude >= 0x1p-14) {
        (void)frexp(magnitude, &exponent);
        --exponent;
    }
    const int steps = (int)nearbyint(ldexp(magnitude, 10 - exponent)); /* of 2^(exponent-10): 0 .. 2048 */
    /* a subnormal's bits are its number of steps; 1024 steps are the first normal, and the same sum holds from there */
    return (uint16_t)(sign | (unsigned)(steps + (exponent + 14) * 1024));
}

static void check_to_half(float x) {
    const uint16_t half = q8a8_float_to_half(x);
    const uint16_t expected = rounded((double)x);
    check_that(half == expected, "float_to_half(%a) = %04x, expected %04x", (double)x, half, expected);
}

/* Every half: its float is exact and converts back to it. */
static void every_half(void) {
    for (unsigned h = 0; h < 0x10000; ++h) {
        const uint16_t half = (uint16_t)h;
        const float x = q8a8_half_to_float(half);
        if ((half & 0x7c00) == 0x7c00) {
            const int nan = (half & 0x3ff) != 0;
            check_that(nan ? isnan(x) != 0 : isinf(x) != 0, "half_to_float(%04x) = %a", half, (double)x);
            check_that(q8a8_float_to_half(x) == (nan ? half | 0x200 : half), "conversion back of %04x", half);
        } else {
            check_that((double)x == value_of(half) && !signbit(x) == !(half & 0x8000), "half_to_float(%04x) = %a", half,
                       (double)x);
            check_that(q8a8_float_to_half(x) == half, "conversion back of %04x: %04x", half, q8a8_float_to_half(x));
        }
    }
}

/* Between every two neighbours: the tie, and the floats on either side of it. */
static void every_boundary(void) {
    for (unsigned h = 0; h < 0x7c00; ++h) {
        const double next = h == 0x7bff ? 65536.0 : value_of((uint16_t)(h + 1));
        const float tie = (float)((value_of((uint16_t)h) + next) / 2);
        for (int ulps = -1; ulps <= 1; ++ulps) {
            const float x = float_of(bits_of(tie) + (uint32_t)ulps);
            check_to_half(x);
            check_to_half(-x);
        }
    }
}

static void random_floats(void) {
    for (int i = 0; i < 300000; ++i) {
        const float x = float_of((uint32_t)random_u64());
        if (isfinite(x)) {
            check_to_half(x);
        }
    }
    for (int i = 0; i < 300000; ++i) { /* the range of halves: 2^-26 to 2^16 */
        const uint32_t exponent = 127 - 26 + random_below(43);
        check_to_half(float_of(exponent << 23 | ((uint32_t)random_u64() & 0x807fffffu)));
    }
    check_to_half(float_of(0x7f7fffffu));
    check_to_half(float_of(1));
}

int main(void) {
    every_half();
    every_boundary();
    random_floats();
    return check_report("half");
}
