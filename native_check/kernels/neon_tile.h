/* The product by lanes of the kernels for NEON: a tile is eight rows, one in each lane of two vectors. Include it after
 * rows.h, and after defining GROUP, the integers of a row that are packed together, and
 *     void block_sums(const int8_t *w, const int8_t *const *q, size_t count, int32x4_t sumi[][2]);
 * as ALWAYS_INLINE: the exact sums of a block of the tile times a block of count rows of x (Q8A8-DOT-1). */
#ifndef Q8A8_NEON_TILE_H
#define Q8A8_NEON_TILE_H

enum { ROWS = 8, COLUMNS = 4 };

static size_t rows_of_two_vectors(void) {
    return ROWS;
}

/* count is a constant wherever this is inlined, so that all arrays are registers. */
ALWAYS_INLINE void few_columns(const uint8_t *ints, const uint16_t *scales, size_t blocks, const uint8_t *columns,
                               size_t apart, size_t count, float *out, size_t stride) {
    float32x4_t sums[COLUMNS][2];
    UNROLL
    for (size_t c = 0; c < count; ++c) {
        sums[c][0] = vld1q_f32(out + c * stride);
        sums[c][1] = vld1q_f32(out + c * stride + 4);
    }
    for (size_t b = 0; b < blocks; ++b, ints += ROWS * QK8_A8, scales += ROWS, columns += sizeof(struct q8a8_column)) {
        const struct q8a8_column *column[COLUMNS];
        const int8_t *q[COLUMNS];
        int32x4_t sumi[COLUMNS][2];
        UNROLL
        for (size_t c = 0; c < count; ++c) {
            column[c] = (const void *)(columns + c * apart);
            q[c] = column[c]->q;
        }
        block_sums((const int8_t *)ints, q, count, sumi);
        const uint16x8_t halves = vld1q_u16(scales);
        const float32x4_t dw0 = arm_floats_of_halves(vget_low_u16(halves));
        const float32x4_t dw1 = arm_floats_of_halves(vget_high_u16(halves));
        /* sum = f32(sum + f32(f32(sumi) * f32(dw * dx))): two roundings, so not vmlaq or vfmaq (Q8A8-DOT-2, DOT-3) */
        UNROLL
        for (size_t c = 0; c < count; ++c) {
            const float dx = column[c]->scale;
            sums[c][0] = vaddq_f32(sums[c][0], vmulq_f32(vcvtq_f32_s32(sumi[c][0]), vmulq_n_f32(dw0, dx)));
            sums[c][1] = vaddq_f32(sums[c][1], vmulq_f32(vcvtq_f32_s32(sumi[c][1]), vmulq_n_f32(dw1, dx)));
        }
    }
    UNROLL
    for (size_t c = 0; c < count; ++c) {
        vst1q_f32(out + c * stride, sums[c][0]);
        vst1q_f32(out + c * stride + 4, sums[c][1]);
    }
}

static void neon_tile(const uint8_t *ints, const uint16_t *scales, size_t blocks, const void *columns, size_t apart,
                      size_t count, float *sums, size_t stride) {
    const uint8_t *first = columns;
    for (; count >= COLUMNS; count -= COLUMNS, first += COLUMNS * apart, sums += COLUMNS * stride) {
        few_columns(ints, scales, blocks, first, apart, COLUMNS, sums, stride);
    }
    for (; count >= 2; count -= 2, first += 2 * apart, sums += 2 * stride) {
        few_columns(ints, scales, blocks, first, apart, 2, sums, stride);
    }
    if (count != 0) {
        few_columns(ints, scales, blocks, first, apart, 1, sums, stride);
    }
}

#define NEON_PRODUCT                                                                                                   \
    {                                                                                                                  \
        .rows = rows_of_two_vectors, .group = GROUP, .column_bytes = sizeof(struct q8a8_column),                       \
        .quantize = rows_quantize_columns, .tile = neon_tile                                                           \
    }

#endif
