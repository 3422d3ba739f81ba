/* The scalar kernel equals the specification's formulas, written with the C library's rounding, in double where
 * that is exact. */
#include "half.h"
#include "inputs.h"
#include "kernel.h"

#include <math.h>

extern const struct q8a8_kernel q8a8_kernel_scalar;
static const struct q8a8_kernel *const scalar = &q8a8_kernel_scalar;

/* Q8A8-QNT-1 to Q8A8-QNT-6, one span of floats in the domain. */
static uint16_t expected(const float *x, size_t count, int8_t *q) {
    float amax = 0.0f;
    for (size_t j = 0; j < count; ++j) {
        amax = fmaxf(amax, fabsf(x[j]));
    }
    const uint16_t h = q8a8_float_to_half(amax / 127.0f); /* half.h is tested in test_half.c */
    for (size_t j = 0; j < count; ++j) {
        const float inverse = h == 0 ? 0.0f : 127.0f / amax;
        q[j] = (int8_t)roundf(x[j] * inverse);
    }
    return h;
}

static void quantizers(void) {
    float x[100];
    int8_t q[100], q_expected[100];
    uint8_t block[Q8A8_BLOCK_BYTES], v2[Q8A8_V2_BLOCK_BYTES];
    for (int round = 0; round < 4000; ++round) {
        const enum flavour flavour = (enum flavour)(round % FLAVOURS_IN_DOMAIN);
        const size_t size = random_below(101);
        fill_floats(x, 100, flavour);

        uint16_t scale = 0xdead;
        uint16_t h = expected(x, size, q_expected);
        scalar->quantize_activation(x, q, &scale, (int)size);
        check_that(scale == h && memcmp(q, q_expected, size) == 0, "quantize_activation, flavour %d, size %zu",
                   (int)flavour, size);

        h = expected(x, QK8_A8, q_expected);
        scalar->quantize_row(x, block, QK8_A8);
        check_that(block[0] == (h & 0xff) && block[1] == h >> 8 && memcmp(block + 2, q_expected, QK8_A8) == 0,
                   "quantize_row, flavour %d", (int)flavour);
        scalar->quantize_row_v2(x, v2, QK8_A8, Q8A8_ACTIVATION_SCALE);
        check_that(v2[0] == 0 && v2[1] == 0 && memcmp(v2 + 2, block, Q8A8_BLOCK_BYTES) == 0, "quantize_row_v2");
    }
}

/* Q8A8-DEQ-1 and Q8A8-DOT-1: products that are exact in double, sums in 64 bits. */
static void dequantize_and_dot(void) {
    enum { BLOCKS = 5 };
    uint8_t x[BLOCKS * Q8A8_BLOCK_BYTES], y[BLOCKS * Q8A8_BLOCK_BYTES];
    float floats[BLOCKS * QK8_A8];
    for (int round = 0; round < 4000; ++round) {
        const size_t blocks = random_below(BLOCKS + 1);
        fill_blocks(x, BLOCKS, Q8A8_BLOCK_BYTES, 99);
        fill_blocks(y, BLOCKS, Q8A8_BLOCK_BYTES, 99);
        float sum = 0.0f;
        scalar->dequantize_row(x, floats, (int64_t)(blocks * QK8_A8));
        for (size_t b = 0; b < blocks; ++b) {
            const uint8_t *xb = x + b * Q8A8_BLOCK_BYTES;
            const uint8_t *yb = y + b * Q8A8_BLOCK_BYTES;
            const double dx = (double)q8a8_half_to_float((uint16_t)(xb[0] | xb[1] << 8));
            const double dy = (double)q8a8_half_to_float((uint16_t)(yb[0] | yb[1] << 8));
            int64_t sumi = 0;
            for (size_t j = 2; j < Q8A8_BLOCK_BYTES; ++j) {
                sumi += (int8_t)xb[j] * (int8_t)yb[j];
                const float value = floats[b * QK8_A8 + j - 2];
                const double exact = dx * (int8_t)xb[j];
                check_that((double)value == exact && !signbit(value) == !signbit(exact), "dequantize: %a, expected %a",
                           (double)value, exact);
            }
            /* dx * dy has 22 bits and sumi 20: their product is exact in double, and rounded here once */
            const float term = (float)(dx * dy * (double)sumi);
            sum = (float)((double)sum + (double)term); /* rounding twice is harmless: 53 >= 2 * 24 + 2 bits */
        }
        float s = 17.0f;
        scalar->vec_dot((int)(blocks * QK8_A8), &s, 0, x, 0, y, 0, 1);
        check_that(bits_of(s) == bits_of(sum), "vec_dot of %zu blocks: %a, expected %a", blocks, (double)s, (double)sum);
    }
}

/* Q8A8-MUL-4 to Q8A8-MUL-7: the outputs are those of the row functions, at their places. */
static void products(void) {
    enum { BLOCKS = 3, M = 5, N = 4, ROW = BLOCKS * Q8A8_BLOCK_BYTES };
    uint8_t w[M * ROW], xq[ROW];
    float x[N * BLOCKS * QK8_A8], out[N * M + 1];
    for (int round = 0; round < 400; ++round) {
        const int blocks = (int)random_below(BLOCKS + 1);
        const int64_t k = blocks * QK8_A8, m = (int64_t)random_below(M + 1), n = (int64_t)random_below(N + 1);
        const size_t row = (size_t)blocks * Q8A8_BLOCK_BYTES;
        fill_blocks(w, M * BLOCKS, Q8A8_BLOCK_BYTES, 99);
        fill_floats(x, N * BLOCKS * QK8_A8, (enum flavour)(round % FLAVOURS_IN_DOMAIN));
        for (size_t i = 0; i < N * M + 1; ++i) {
            out[i] = 17.0f;
        }
        scalar->mul_mat(m, n, k, w, x, out);
        check_that(out[n * m] == 17.0f, "mul_mat writes behind its outputs");
        for (int64_t i = 0; i < n; ++i) {
            scalar->quantize_row(x + i * k, xq, k);
            for (int64_t j = 0; j < m; ++j) {
                float s;
                scalar->vec_dot((int)k, &s, 0, w + (size_t)j * row, 0, xq, 0, 1);
                check_that(bits_of(out[i * m + j]) == bits_of(s), "mul_mat: %a, expected %a",
                           (double)out[i * m + j], (double)s);
            }
        }
    }
}

int main(void) {
    quantizers();
    products();
    dequantize_and_dot();
    return check_report("scalar");
}
