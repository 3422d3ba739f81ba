/* Dot products of Q8_A8 rows that add up in other ways than any accumulation order: -DWAY=... selects one.
 * Written from the specification, independently of the suite, to test that the diagnosis names them. */
#include <fenv.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define TOWARD_ZERO 1
#define UPWARD 2
#define DOWNWARD 3
#define IN_DOUBLE 4
#define EXACT 5
#define KAHAN 6
#define NEUMAIER 7
#define TOWARD_ZERO_IN_LANES 8

static double half(const uint8_t *p) {
    unsigned bits = p[0] | p[1] << 8, e = bits >> 10 & 31, f = bits & 1023;
    double v = e ? ldexp(1024 + f, (int)e - 25) : ldexp(f, -24);
    return bits & 0x8000 ? -v : v;
}

static int block(const uint8_t *x, const uint8_t *y, int from, int to) {
    int sum = 0;
    for (int j = from; j < to; j++) sum += (int8_t)x[2 + j] * (int8_t)y[2 + j];
    return sum;
}

static float dot(int nb, const uint8_t *x, const uint8_t *y) {
    volatile float sum = 0, lost = 0, term, t, corrected;
    volatile float lane[8] = {0};
    double wide = 0;
    __int128 fixed = 0; /* in units of 2^-48 */
    for (int b = 0; b < nb; b++, x += 34, y += 34) {
        double d = half(x) * half(y);
        int s = block(x, y, 0, 32);
        switch (WAY) {
        case TOWARD_ZERO: case UPWARD: case DOWNWARD:
            term = (float)s * (float)d;
            sum = sum + term;
            break;
        case TOWARD_ZERO_IN_LANES: /* the lanes of `avx2`: eight, each of four bytes; fused */
            for (int l = 0; l < 8; l++)
                lane[l] = fmaf((float)block(x, y, 4 * l, 4 * l + 4), (float)d, lane[l]);
            break;
        case IN_DOUBLE: wide += s * d; break;
        case EXACT: fixed += (__int128)s * (int64_t)ldexp(half(x), 24) * (int64_t)ldexp(half(y), 24); break;
        case KAHAN:
            term = (float)s * (float)d;
            corrected = term - lost;
            t = sum + corrected;
            lost = t - sum;
            lost = lost - corrected;
            sum = t;
            break;
        case NEUMAIER:
            term = (float)s * (float)d;
            t = sum + term;
            if (fabsf(sum) >= fabsf(term)) { corrected = sum - t; corrected = corrected + term; }
            else { corrected = term - t; corrected = corrected + sum; }
            lost = lost + corrected;
            sum = t;
            break;
        }
    }
    switch (WAY) {
    case IN_DOUBLE: return (float)wide;
    case EXACT: {
        int negative = fixed < 0, shift = 0;
        unsigned __int128 left = negative ? -(unsigned __int128)fixed : (unsigned __int128)fixed;
        int sticky = 0; /* cut to 60 bits, the rest in the last one: then one rounding of an integer is right */
        while (left >> 60) { sticky |= (int)(left & 1); left >>= 1; shift++; }
        float v = ldexpf((float)(uint64_t)(left | sticky), shift - 48);
        return negative ? -v : v;
    }
    case NEUMAIER: return sum + lost;
    case TOWARD_ZERO_IN_LANES: {
        volatile float high[4], two[2];
        for (int l = 0; l < 4; l++) high[l] = lane[l] + lane[l + 4];
        for (int l = 0; l < 2; l++) two[l] = high[l] + high[l + 2];
        return two[0] + two[1];
    }
    default: return sum;
    }
}

void ggml_vec_dot_q8_a8_q8_a8(int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy, size_t by,
                              int nrc) {
    int mode = fegetround();
    (void)bs, (void)bx, (void)by;
    if (nrc != 1) return;
    if (WAY == TOWARD_ZERO || WAY == TOWARD_ZERO_IN_LANES) fesetround(FE_TOWARDZERO);
    if (WAY == UPWARD) fesetround(FE_UPWARD);
    if (WAY == DOWNWARD) fesetround(FE_DOWNWARD);
    volatile float result = dot(n / 32, vx, vy);
    fesetround(mode);
    memcpy(s, (const void *)&result, sizeof result);
}
