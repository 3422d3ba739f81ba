/* The specification in plain C: one of the independent implementations behind the golden vectors.
 *
 * Compile with -ffp-contract=off: a fused multiply-add would change bits (the order `scalar-fma`).
 * Blocks are read and written as bytes, so that no access is misaligned at any address.
 */
#include "half.h"
#include "kernel.h"

#include <float.h>

#if !defined(FLT_EVAL_METHOD) || FLT_EVAL_METHOD != 0
#error "float expressions must be evaluated in float: on 32-bit x86, compile with -msse2 -mfpmath=sse"
#endif

/* The layout of a block: its size, and the offsets of the scale of either factor and of the integers. */
struct layout {
    size_t bytes, x_scale, y_scale, qs;
};
static const struct layout V1 = {Q8A8_BLOCK_BYTES, 0, 0, 2};
static const struct layout V2 = {Q8A8_V2_BLOCK_BYTES, 0, 2, 4};

static uint16_t load_half(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

static void store_half(uint8_t *p, uint16_t half) {
    p[0] = (uint8_t)(half & 0xff);
    p[1] = (uint8_t)(half >> 8);
}

/* roundf, halves away from zero (Q8A8-QNT-4), for |v| < 127.5; v - whole is exact there.
 * Only a NaN is outside that range: from a NaN or infinite input, whose result is unspecified, but whose
 * conversion to an integer would be undefined behaviour (Q8A8-QNT-11). */
static int8_t round_to_int8(float v) {
    if (!(v > -127.5f && v < 127.5f)) {
        return 0;
    }
    const int32_t whole = (int32_t)v;
    const float rest = v - (float)whole;
    return (int8_t)(whole + (rest >= 0.5f) - (rest <= -0.5f));
}

/* Quantize count floats under one scale; returns the scale (Q8A8-QNT-1 to Q8A8-QNT-6). */
static uint16_t quantize(const float *x, int8_t *q, size_t count) {
    /* amax = max |x_j| */
    float amax = 0.0f;
    for (size_t j = 0; j < count; ++j) {
        const float magnitude = q8a8_float_of_bits(q8a8_bits_of_float(x[j]) & 0x7fffffffu);
        amax = magnitude > amax ? magnitude : amax;
    }
    /* d = f32(amax / 127), h = f16(d) */
    const uint16_t h = q8a8_float_to_half(amax / 127.0f);
    /* inv = f32(127 / amax) if h != 0 else 0: the test is on the stored half */
    const float inv = h != 0 ? 127.0f / amax : 0.0f;
    /* q_j = roundf(f32(x_j * inv)) */
    for (size_t j = 0; j < count; ++j) {
        q[j] = round_to_int8(x[j] * inv);
    }
    return h;
}

static void scalar_quantize_row(const float *x, void *y, int64_t k) {
    uint8_t *block = y;
    for (int64_t b = 0; b < k / QK8_A8; ++b, x += QK8_A8, block += V1.bytes) {
        store_half(block, quantize(x, (int8_t *)(block + V1.qs), QK8_A8));
    }
}

static void scalar_quantize_row_v2(const float *x, void *y, int64_t k, enum q8a8_field field) {
    const size_t carried = field == Q8A8_WEIGHT_SCALE ? V2.x_scale : V2.y_scale;
    const size_t other = field == Q8A8_WEIGHT_SCALE ? V2.y_scale : V2.x_scale;
    uint8_t *block = y;
    for (int64_t b = 0; b < k / QK8_A8; ++b, x += QK8_A8, block += V2.bytes) {
        store_half(block + carried, quantize(x, (int8_t *)(block + V2.qs), QK8_A8));
        store_half(block + other, 0); /* Q8A8-LAY-4 */
    }
}

static void scalar_quantize_activation(const float *input, int8_t *output, uint16_t *scale, int size) {
    *scale = quantize(input, output, size > 0 ? (size_t)size : 0); /* Q8A8-QNT-9 */
}

/* y_j = f32(h) * q_j, exact (Q8A8-DEQ-1). */
static void dequantize(const uint8_t *block, float *y, int64_t k, const struct layout *layout, size_t scale) {
    for (int64_t b = 0; b < k / QK8_A8; ++b, y += QK8_A8, block += layout->bytes) {
        const float d = q8a8_half_to_float(load_half(block + scale));
        const int8_t *q = (const int8_t *)(block + layout->qs);
        for (size_t j = 0; j < QK8_A8; ++j) {
            y[j] = d * (float)q[j];
        }
    }
}

static void scalar_dequantize_row(const void *x, float *y, int64_t k) {
    dequantize(x, y, k, &V1, V1.x_scale);
}

static void scalar_dequantize_row_v2(const void *x, float *y, int64_t k, enum q8a8_field field) {
    dequantize(x, y, k, &V2, field == Q8A8_WEIGHT_SCALE ? V2.x_scale : V2.y_scale);
}

/* What a block adds to a dot product. */
static inline float term(const uint8_t *x, const uint8_t *y, const struct layout *layout) {
    const int8_t *qx = (const int8_t *)(x + layout->qs);
    const int8_t *qy = (const int8_t *)(y + layout->qs);
    /* sumi = sum_j qx_j * qy_j, exact (Q8A8-DOT-1) */
    int32_t sumi = 0;
    for (size_t j = 0; j < QK8_A8; ++j) {
        sumi += qx[j] * qy[j];
    }
    /* f32(f32(sumi) * f32(dx * dy)) (Q8A8-DOT-2) */
    const float dx = q8a8_half_to_float(load_half(x + layout->x_scale));
    const float dy = q8a8_half_to_float(load_half(y + layout->y_scale));
    return (float)sumi * (dx * dy);
}

/* The dot product of two rows, in the order `scalar`. */
static float dot(int n, const uint8_t *x, const uint8_t *y, const struct layout *layout) {
    float sum = 0.0f;
    for (int b = 0; b < n / QK8_A8; ++b, x += layout->bytes, y += layout->bytes) {
        sum = sum + term(x, y, layout); /* f32(sum + term) (Q8A8-DOT-3) */
    }
    return sum;
}

static void scalar_vec_dot(int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy, size_t by, int nrc) {
    const uint8_t *x = vx;
    const uint8_t *y = vy;
    s[0] = dot(n, x, y, &V1);
    if (nrc == 2) { /* Q8A8-DOT-6; nrc = 1 ignores bs, bx and by (Q8A8-DOT-12) */
        s[1] = dot(n, x + bx, y, &V1);
        s[bs] = dot(n, x, y + by, &V1);
        s[bs + 1] = dot(n, x + bx, y + by, &V1);
    }
}

static void scalar_vec_dot_real(int n, float *s, const void *vx, const void *vy) {
    s[0] = dot(n, vx, vy, &V2); /* Q8A8-DOT-9 */
}

/* Each block of a row of x is quantized once (Q8A8-MUL-4), and its terms are added to all sums of the row, block after
 * block (Q8A8-MUL-5): no memory is needed but out, and no result depends on another row (Q8A8-MUL-9). */
static void scalar_mul_mat(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out) {
    const size_t row = (size_t)(k / QK8_A8) * V1.bytes;
    for (int64_t i = 0; i < n; ++i, out += m) {
        for (int64_t j = 0; j < m; ++j) {
            out[j] = 0.0f; /* Q8A8-MUL-7 */
        }
        const uint8_t *column = w;
        for (int64_t b = 0; b < k / QK8_A8; ++b, x += QK8_A8, column += V1.bytes) {
            uint8_t block[Q8A8_BLOCK_BYTES];
            scalar_quantize_row(x, block, QK8_A8);
            for (int64_t j = 0; j < m; ++j) {
                out[j] = out[j] + term(column + (size_t)j * row, block, &V1);
            }
        }
    }
}

/* The product of packed weights: a tile is a row, and a quantized block of x is a block. */
static size_t scalar_rows(void) {
    return 1;
}

static void scalar_quantize_columns(const float *x, void *column, size_t blocks) {
    scalar_quantize_row(x, column, (int64_t)blocks * QK8_A8);
}

static void scalar_tile(const uint8_t *ints, const uint16_t *scales, size_t blocks, const void *columns, size_t apart,
                        size_t count, float *sums, size_t stride) {
    for (size_t c = 0; c < count; ++c) {
        const uint8_t *column = (const uint8_t *)columns + c * apart;
        for (size_t b = 0; b < blocks; ++b) {
            uint8_t block[Q8A8_BLOCK_BYTES];
            store_half(block, scales[b]);
            memcpy(block + V1.qs, ints + b * QK8_A8, QK8_A8);
            sums[c * stride] = sums[c * stride] + term(block, column + b * V1.bytes, &V1);
        }
    }
}

static const struct q8a8_product scalar_product = {
    .rows = scalar_rows,
    .group = QK8_A8,
    .column_bytes = Q8A8_BLOCK_BYTES,
    .quantize = scalar_quantize_columns,
    .tile = scalar_tile,
};

extern const struct q8a8_kernel q8a8_kernel_scalar;
const struct q8a8_kernel q8a8_kernel_scalar = {
    .name = "scalar",
    .needs = {NULL},
    .quantize_row_ref = scalar_quantize_row,
    .quantize_row = scalar_quantize_row,
    .dequantize_row = scalar_dequantize_row,
    .quantize_activation = scalar_quantize_activation,
    .vec_dot = scalar_vec_dot,
    .vec_dot_real = scalar_vec_dot_real,
    .mul_mat = scalar_mul_mat,
    .quantize_row_v2 = scalar_quantize_row_v2,
    .dequantize_row_v2 = scalar_dequantize_row_v2,
    .product = &scalar_product,
};
