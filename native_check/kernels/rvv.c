/* RISC-V V 1.0, for vectors of any length from 128 bits on. */
#include "half.h"
#include "kernel.h"

#include <riscv_vector.h>
#include <string.h>

/* 32 products of at most 2^14 in int16, added in int32 (Q8A8-DOT-1). A register has at least 128 bits, so that two hold
 * the 32 integers of a block. */
static inline int32_t block_sum(const int8_t *qx, const int8_t *qy) {
    const vint8m2_t x = __riscv_vle8_v_i8m2(qx, QK8_A8);
    const vint8m2_t y = __riscv_vle8_v_i8m2(qy, QK8_A8);
    const vint16m4_t products = __riscv_vwmul_vv_i16m4(x, y, QK8_A8);
    const vint32m1_t zero = __riscv_vmv_s_x_i32m1(0, 1);
    return __riscv_vmv_x_s_i32m1_i32(__riscv_vwredsum_vs_i16m4_i32m1(products, zero, QK8_A8));
}

static inline float float_of_half(uint16_t half) {
    return q8a8_half_to_float(half);
}

/* Quantize count floats under one scale; returns the scale (Q8A8-QNT-1 to Q8A8-QNT-6). */
static inline uint16_t quantize_values(const float *x, int8_t *q, size_t count) {
    /* amax = max |x_j| */
    vfloat32m1_t most = __riscv_vfmv_s_f_f32m1(0.0f, 1);
    for (size_t j = 0, some; j < count; j += some) {
        some = __riscv_vsetvl_e32m8(count - j);
        const vfloat32m8_t magnitudes = __riscv_vfabs_v_f32m8(__riscv_vle32_v_f32m8(x + j, some), some);
        most = __riscv_vfredmax_vs_f32m8_f32m1(magnitudes, most, some);
    }
    const float amax = __riscv_vfmv_f_s_f32m1_f32(most);
    /* d = f32(amax / 127), h = f16(d), inv = f32(127 / amax) if h != 0 else 0 */
    const uint16_t h = q8a8_float_to_half(amax / 127.0f);
    const float inv = h != 0 ? 127.0f / amax : 0.0f;
    /* q_j = roundf(f32(x_j * inv)): the rounding mode RMM is to nearest, halves away from zero (Q8A8-QNT-4) */
    for (size_t j = 0, some; j < count; j += some) {
        some = __riscv_vsetvl_e32m8(count - j);
        const vfloat32m8_t scaled = __riscv_vfmul_vf_f32m8(__riscv_vle32_v_f32m8(x + j, some), inv, some);
        const vint16m4_t codes = __riscv_vfncvt_x_f_w_i16m4_rm(scaled, __RISCV_FRM_RMM, some);
        __riscv_vse8_v_i8m2(q + j, __riscv_vncvt_x_x_w_i8m2(codes, some), some);
    }
    return h;
}

/* y_j = f32(h) * q_j for the 32 elements of a block, exact (Q8A8-DEQ-1). */
static inline void dequantize_block(uint16_t half, const int8_t *q, float *y) {
    const float d = q8a8_half_to_float(half);
    for (size_t j = 0, some; j < QK8_A8; j += some) {
        some = __riscv_vsetvl_e32m8(QK8_A8 - j);
        const vint16m4_t wide = __riscv_vsext_vf2_i16m4(__riscv_vle8_v_i8m2(q + j, some), some);
        __riscv_vse32_v_f32m8(y + j, __riscv_vfmul_vf_f32m8(__riscv_vfwcvt_f_x_v_f32m8(wide, some), d, some), some);
    }
}

#include "rows.h"

/* A tile has a row for each lane of four registers of int32. */
static inline size_t rvv_rows_of_tile(void) {
    const size_t lanes = __riscv_vsetvlmax_e32m4();
    return lanes < Q8A8_MAX_ROWS ? lanes : Q8A8_MAX_ROWS;
}

/* f32(h) of finite halves: the exponent's offset is 127 - 15 = 112, and what the multiplication makes of a subnormal
 * float is exact, because this processor has no mode that flushes them (Q8A8-HLF-2, Q8A8-HLF-3). */
static inline vfloat32m4_t rvv_floats_of_halves(vuint16m2_t halves, size_t vl) {
    const vuint32m4_t wide = __riscv_vzext_vf2_u32m4(halves, vl);
    const vuint32m4_t sign = __riscv_vsll_vx_u32m4(__riscv_vand_vx_u32m4(wide, 0x8000u, vl), 16, vl);
    const vuint32m4_t rest = __riscv_vsll_vx_u32m4(__riscv_vand_vx_u32m4(wide, 0x7fffu, vl), 13, vl);
    const vuint32m4_t bits = __riscv_vor_vv_u32m4(sign, rest, vl);
    return __riscv_vfmul_vf_f32m4(__riscv_vreinterpret_v_u32m4_f32m4(bits), 0x1p112f, vl);
}

/* Lane r has row r of the tile. Two products fit in int16: those of a code of x, which is at least -127, and of one of
 * w are at most 127 * 128 in size (Q8A8-DOT-1). */
static inline void rvv_tile(const uint8_t *ints, const uint16_t *scales, size_t blocks, const void *columns,
                            size_t apart, size_t count, float *sums, size_t stride) {
    const size_t vl = rvv_rows_of_tile();
    for (size_t c = 0; c < count; ++c) {
        const void *first = (const uint8_t *)columns + c * apart;
        const struct q8a8_column *column = first;
        const int8_t *w = (const int8_t *)ints;
        vfloat32m4_t sum = __riscv_vle32_v_f32m4(sums + c * stride, vl);
        for (size_t b = 0; b < blocks; ++b) {
            vint32m4_t sumi = __riscv_vmv_v_x_i32m4(0, vl);
            for (size_t j = 0; j < QK8_A8; j += 2, w += 2 * vl) {
                vint16m2_t pair = __riscv_vwmul_vx_i16m2(__riscv_vle8_v_i8m1(w, vl), column[b].q[j], vl);
                pair = __riscv_vwmacc_vx_i16m2(pair, column[b].q[j + 1], __riscv_vle8_v_i8m1(w + vl, vl), vl);
                sumi = __riscv_vwadd_wv_i32m4(sumi, pair, vl);
            }
            /* sum = f32(sum + f32(f32(sumi) * f32(dw * dx))) (Q8A8-DOT-2, Q8A8-DOT-3) */
            const vfloat32m4_t dw = rvv_floats_of_halves(__riscv_vle16_v_u16m2(scales + b * vl, vl), vl);
            const vfloat32m4_t d = __riscv_vfmul_vf_f32m4(dw, column[b].scale, vl);
            const vfloat32m4_t term = __riscv_vfmul_vv_f32m4(__riscv_vfcvt_f_x_v_f32m4(sumi, vl), d, vl);
            sum = __riscv_vfadd_vv_f32m4(sum, term, vl);
        }
        __riscv_vse32_v_f32m4(sums + c * stride, sum, vl);
    }
}

static const struct q8a8_product rvv_product = {
    .rows = rvv_rows_of_tile,
    .group = 1,
    .column_bytes = sizeof(struct q8a8_column),
    .quantize = rows_quantize_columns,
    .tile = rvv_tile,
};

static void rvv_mul_mat(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out) {
    q8a8_product_mul_mat(&rvv_product, m, n, k, w, x, out);
}

extern const struct q8a8_kernel q8a8_kernel_rvv;
const struct q8a8_kernel q8a8_kernel_rvv = {
    .name = "rvv",
    .needs = {"v"},
    .vec_dot = rows_vec_dot,
    .mul_mat = rvv_mul_mat,
    .product = &rvv_product,
    ROWS_KERNEL_FUNCTIONS,
};
