/* WebAssembly with vectors of 128 bits. */
#include "half.h"
#include "kernel.h"

#include <string.h>
#include <wasm_simd128.h>

/* A lane of the dot instruction adds two products of int16 in int32: exact (Q8A8-DOT-1). */
static inline int32_t block_sum(const int8_t *qx, const int8_t *qy) {
    v128_t sums = wasm_i32x4_const_splat(0);
    for (size_t j = 0; j < QK8_A8; j += 8) {
        sums = wasm_i32x4_add(sums, wasm_i32x4_dot_i16x8(wasm_i16x8_load8x8(qx + j), wasm_i16x8_load8x8(qy + j)));
    }
    return wasm_i32x4_extract_lane(sums, 0) + wasm_i32x4_extract_lane(sums, 1) + wasm_i32x4_extract_lane(sums, 2) +
           wasm_i32x4_extract_lane(sums, 3);
}

static inline float float_of_half(uint16_t half) {
    return q8a8_half_to_float(half);
}

/* Four codes: v = f32(x * inv) plus or minus the float below 1/2, truncated, is halves away from zero: a half becomes
 * the next integer, a tie that goes to the even one, and nothing below a half does (Q8A8-QNT-4). A NaN becomes 0. */
static inline v128_t wasm_codes(const float *x, v128_t inv) {
    const v128_t v = wasm_f32x4_mul(wasm_v128_load(x), inv);
    const v128_t sign = wasm_v128_and(v, wasm_u32x4_const_splat(0x80000000u));
    const v128_t below_half = wasm_v128_or(wasm_u32x4_const_splat(0x3effffffu), sign);
    return wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_add(v, below_half));
}

static inline void wasm_quantize_8(const float *x, v128_t inv, int8_t *q) {
    const v128_t wide = wasm_i16x8_narrow_i32x4(wasm_codes(x, inv), wasm_codes(x + 4, inv));
    wasm_v128_store64_lane(q, wasm_i8x16_narrow_i16x8(wide, wide), 0);
}

/* Quantize count floats under one scale; returns the scale (Q8A8-QNT-1 to Q8A8-QNT-6). */
static inline uint16_t quantize_values(const float *x, int8_t *q, size_t count) {
    const size_t tail = count % 8;
    const size_t whole = count - tail;
    float last[8] = {0}; /* the tail, padded with zeros: never read past count */
    int8_t last_q[8];
    if (tail != 0) {
        memcpy(last, x + whole, tail * sizeof *x);
    }
    /* amax = max |x_j| */
    v128_t most = wasm_f32x4_max(wasm_f32x4_abs(wasm_v128_load(last)), wasm_f32x4_abs(wasm_v128_load(last + 4)));
    for (size_t j = 0; j < whole; j += 4) {
        most = wasm_f32x4_max(most, wasm_f32x4_abs(wasm_v128_load(x + j)));
    }
    most = wasm_f32x4_max(most, wasm_i32x4_shuffle(most, most, 2, 3, 0, 1));
    most = wasm_f32x4_max(most, wasm_i32x4_shuffle(most, most, 1, 0, 3, 2));
    const float amax = wasm_f32x4_extract_lane(most, 0);
    /* d = f32(amax / 127), h = f16(d), inv = f32(127 / amax) if h != 0 else 0 */
    const uint16_t h = q8a8_float_to_half(amax / 127.0f);
    const v128_t inv = wasm_f32x4_splat(h != 0 ? 127.0f / amax : 0.0f);
    for (size_t j = 0; j < whole; j += 8) {
        wasm_quantize_8(x + j, inv, q + j);
    }
    if (tail != 0) {
        wasm_quantize_8(last, inv, last_q);
        memcpy(q + whole, last_q, tail);
    }
    return h;
}

/* y_j = f32(h) * q_j for the 32 elements of a block, exact (Q8A8-DEQ-1). */
static inline void dequantize_block(uint16_t half, const int8_t *q, float *y) {
    const v128_t d = wasm_f32x4_splat(q8a8_half_to_float(half));
    for (size_t j = 0; j < QK8_A8; j += 8) {
        const v128_t wide = wasm_i16x8_load8x8(q + j);
        const v128_t low = wasm_f32x4_convert_i32x4(wasm_i32x4_extend_low_i16x8(wide));
        const v128_t high = wasm_f32x4_convert_i32x4(wasm_i32x4_extend_high_i16x8(wide));
        wasm_v128_store(y + j, wasm_f32x4_mul(low, d));
        wasm_v128_store(y + j + 4, wasm_f32x4_mul(high, d));
    }
}

#include "rows.h"

/* A tile has eight rows, in pairs of integers: a vector of 16 has a pair of each row. */
enum { WASM_ROWS = 8 };

static inline size_t wasm_rows_of_tile(void) {
    return WASM_ROWS;
}

/* f32(h) of four finite halves, in integers but for the subnormal ones, which are so many 2^-24 (Q8A8-HLF-2, -3). */
static inline v128_t wasm_floats_of_halves(const uint16_t *halves) {
    const v128_t wide = wasm_u32x4_load16x4(halves);
    const v128_t sign = wasm_i32x4_shl(wasm_v128_and(wide, wasm_u32x4_const_splat(0x8000u)), 16);
    const v128_t rest = wasm_v128_and(wide, wasm_u32x4_const_splat(0x7fffu));
    const v128_t normal = wasm_i32x4_add(wasm_i32x4_shl(rest, 13), wasm_u32x4_const_splat((127u - 15u) << 23));
    const v128_t subnormal = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(rest), wasm_f32x4_const_splat(0x1p-24f));
    const v128_t is_normal = wasm_u32x4_gt(rest, wasm_u32x4_const_splat(0x3ffu));
    return wasm_v128_or(sign, wasm_v128_bitselect(normal, subnormal, is_normal));
}

/* Lane r has row r of the tile, and lane r of the second vector row 4 + r. */
static inline void wasm_tile(const uint8_t *ints, const uint16_t *scales, size_t blocks, const void *columns,
                             size_t apart, size_t count, float *sums, size_t stride) {
    for (size_t c = 0; c < count; ++c) {
        const void *first = (const uint8_t *)columns + c * apart;
        const struct q8a8_column *column = first;
        const uint8_t *w = ints;
        v128_t sum[2] = {wasm_v128_load(sums + c * stride), wasm_v128_load(sums + c * stride + 4)};
        for (size_t b = 0; b < blocks; ++b) {
            v128_t sumi[2] = {wasm_i32x4_const_splat(0), wasm_i32x4_const_splat(0)};
            for (size_t j = 0; j < QK8_A8; j += 2, w += 2 * WASM_ROWS) {
                const v128_t pair = wasm_i16x8_extend_low_i8x16(wasm_v128_load16_splat(column[b].q + j));
                const v128_t weights = wasm_v128_load(w);
                sumi[0] = wasm_i32x4_add(sumi[0], wasm_i32x4_dot_i16x8(wasm_i16x8_extend_low_i8x16(weights), pair));
                sumi[1] = wasm_i32x4_add(sumi[1], wasm_i32x4_dot_i16x8(wasm_i16x8_extend_high_i8x16(weights), pair));
            }
            /* sum = f32(sum + f32(f32(sumi) * f32(dw * dx))) (Q8A8-DOT-2, Q8A8-DOT-3) */
            const v128_t dx = wasm_f32x4_splat(column[b].scale);
            for (size_t half = 0; half < 2; ++half) {
                const v128_t dw = wasm_floats_of_halves(scales + b * WASM_ROWS + 4 * half);
                const v128_t term = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(sumi[half]), wasm_f32x4_mul(dw, dx));
                sum[half] = wasm_f32x4_add(sum[half], term);
            }
        }
        wasm_v128_store(sums + c * stride, sum[0]);
        wasm_v128_store(sums + c * stride + 4, sum[1]);
    }
}

static const struct q8a8_product wasm_product = {
    .rows = wasm_rows_of_tile,
    .group = 2,
    .column_bytes = sizeof(struct q8a8_column),
    .quantize = rows_quantize_columns,
    .tile = wasm_tile,
};

static void wasm_mul_mat(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out) {
    q8a8_product_mul_mat(&wasm_product, m, n, k, w, x, out);
}

extern const struct q8a8_kernel q8a8_kernel_wasm_simd128;
const struct q8a8_kernel q8a8_kernel_wasm_simd128 = {
    .name = "wasm-simd128",
    .needs = {NULL},
    .vec_dot = rows_vec_dot,
    .mul_mat = wasm_mul_mat,
    .product = &wasm_product,
    ROWS_KERNEL_FUNCTIONS,
};
