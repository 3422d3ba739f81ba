/* AVX2 and F16C, for x86-64 processors since Haswell and Excavator.
 *
 * VPMADDUBSW multiplies 32 bytes at once, but saturates pairs in int16, and wants one factor unsigned. Widened to int16
 * by VPMOVSXBW and multiplied by VPMADDWD, any int8 is exact (Q8A8-DOT-1), in as many instructions: VPMADDUBSW needs
 * VPSIGNB before, for each pair of vectors, and VPMADDWD behind. */
#include "x86_values.h"

static inline int32_t block_sum(const int8_t *qx, const int8_t *qy) {
    const __m256i x = x86_load_32(qx);
    const __m256i y = x86_load_32(qy);
    const __m256i low = _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm256_castsi256_si128(x)),
                                          _mm256_cvtepi8_epi16(_mm256_castsi256_si128(y)));
    const __m256i high = _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm256_extracti128_si256(x, 1)),
                                           _mm256_cvtepi8_epi16(_mm256_extracti128_si256(y, 1)));
    return x86_sum(_mm256_add_epi32(low, high));
}

#include "rows.h"

/* The product: two vectors of eight rows, by the pairs of elements of up to COLUMNS rows of x. */
enum { ROWS = 16, GROUP = 2, LINES = QK8_A8 / GROUP, COLUMNS = 4 };

struct column { /* a quantized block of x, as int16 */
    float scale;
    int16_t q[QK8_A8];
};

static size_t rows(void) {
    return ROWS;
}

static void quantize_columns(const float *x, void *columns, size_t blocks) {
    struct column *column = columns;
    for (size_t b = 0; b < blocks; ++b, ++column, x += QK8_A8) {
        uint16_t h;
        const __m256i q = x86_quantize_block(x, &h);
        column->scale = float_of_half(h);
        _mm256_storeu_si256((void *)column->q, _mm256_cvtepi8_epi16(_mm256_castsi256_si128(q)));
        _mm256_storeu_si256((void *)(column->q + 16), _mm256_cvtepi8_epi16(_mm256_extracti128_si256(q, 1)));
    }
}

static inline __m256i pair(const int16_t *q) { /* two elements in every lane */
    int32_t both;
    memcpy(&both, q, sizeof both);
    return _mm256_set1_epi32(both);
}

/* sum = f32(sum + f32(f32(sumi) * f32(dw * dx))), unfused (Q8A8-DOT-2, Q8A8-DOT-3) */
static inline void add_terms(float *sums, __m256i sumi, __m256 dw, __m256 dx) {
    const __m256 terms = _mm256_mul_ps(_mm256_cvtepi32_ps(sumi), _mm256_mul_ps(dw, dx));
    _mm256_storeu_ps(sums, _mm256_add_ps(_mm256_loadu_ps(sums), terms));
}

/* count is a constant wherever this is inlined. */
static inline __attribute__((always_inline)) void few_columns(const uint8_t *ints, const uint16_t *scales, size_t blocks,
                                                              const uint8_t *columns, size_t apart, size_t count,
                                                              float *out, size_t stride) {
    float sums[COLUMNS][ROWS];
    for (size_t c = 0; c < count; ++c) {
        memcpy(sums[c], out + c * stride, sizeof *sums);
    }
    for (size_t b = 0; b < blocks; ++b, columns += sizeof(struct column)) {
        __m256i low[COLUMNS], high[COLUMNS];
        for (size_t c = 0; c < count; ++c) {
            low[c] = high[c] = _mm256_setzero_si256();
        }
        for (size_t j = 0; j < LINES; ++j, ints += ROWS * GROUP) {
            const __m256i w0 = _mm256_cvtepi8_epi16(_mm_load_si128((const void *)ints));
            const __m256i w1 = _mm256_cvtepi8_epi16(_mm_load_si128((const void *)(ints + ROWS)));
            for (size_t c = 0; c < count; ++c) {
                const struct column *column = (const void *)(columns + c * apart);
                const __m256i x = pair(column->q + j * GROUP);
                low[c] = _mm256_add_epi32(low[c], _mm256_madd_epi16(w0, x));
                high[c] = _mm256_add_epi32(high[c], _mm256_madd_epi16(w1, x));
            }
        }
        const __m256 d0 = _mm256_cvtph_ps(_mm_loadu_si128((const void *)(scales + b * ROWS)));
        const __m256 d1 = _mm256_cvtph_ps(_mm_loadu_si128((const void *)(scales + b * ROWS + 8)));
        for (size_t c = 0; c < count; ++c) {
            const struct column *column = (const void *)(columns + c * apart);
            const __m256 dx = _mm256_set1_ps(column->scale);
            add_terms(sums[c], low[c], d0, dx);
            add_terms(sums[c] + 8, high[c], d1, dx);
        }
    }
    for (size_t c = 0; c < count; ++c) {
        memcpy(out + c * stride, sums[c], sizeof *sums);
    }
}

static void tile(const uint8_t *ints, const uint16_t *scales, size_t blocks, const void *columns, size_t apart,
                 size_t count, float *sums, size_t stride) {
    const uint8_t *column = columns;
    for (; count >= COLUMNS; count -= COLUMNS, column += COLUMNS * apart, sums += COLUMNS * stride) {
        few_columns(ints, scales, blocks, column, apart, COLUMNS, sums, stride);
    }
    for (; count > 0; --count, column += apart, sums += stride) {
        few_columns(ints, scales, blocks, column, apart, 1, sums, stride);
    }
}

static const struct q8a8_product product = {
    .rows = rows,
    .group = GROUP,
    .column_bytes = sizeof(struct column),
    .quantize = quantize_columns,
    .tile = tile,
};

static void mul_mat(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out) {
    q8a8_product_mul_mat(&product, m, n, k, w, x, out);
}

extern const struct q8a8_kernel q8a8_kernel_avx2;
const struct q8a8_kernel q8a8_kernel_avx2 = {
    .name = "avx2",
    .needs = {"avx2", "f16c"},
    .vec_dot = rows_vec_dot,
    .mul_mat = mul_mat,
    .product = &product,
    ROWS_KERNEL_FUNCTIONS,
};
