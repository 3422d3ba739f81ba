/* Dot products and products by AVX-512 VNNI, shared by avx512-vnni.c and amx.c.
 *
 * VPDPBUSD adds to each int32 lane four products of an unsigned by a signed byte, and does not saturate. A weight w is
 * taken as the unsigned w + 128, which -128 * the sum of x's block corrects: exact for any int8 (Q8A8-DOT-1). A sum is at
 * most 32 * 255 * 128 < 2^21 on the way. The correction is where the lane's sum starts, so that it costs nothing. */
#ifndef Q8A8_AVX512_H
#define Q8A8_AVX512_H

#include "x86_values.h"

static inline int32_t block_sum(const int8_t *qx, const int8_t *qy) {
    const __m256i offset = _mm256_set1_epi8(INT8_MIN);
    const __m256i y = x86_load_32(qy);
    const __m256i sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_xor_si256(x86_load_32(qx), offset), y);
    return x86_sum(_mm256_sub_epi32(sums, _mm256_dpbusd_epi32(_mm256_setzero_si256(), offset, y)));
}

#include "rows.h"

/* A tile of the product: two vectors of sixteen rows, by the groups of four elements of up to AVX512_COLUMNS rows of x.
 * Twelve sums of integers and twelve of floats are the most that 32 registers hold beside their operands: each 64 bytes of
 * w are loaded once for six VPDPBUSD, and there are more chains than the latency needs. */
enum { AVX512_LANES = 16, AVX512_VECTORS = 2, AVX512_ROWS = AVX512_VECTORS * AVX512_LANES };
enum { AVX512_GROUP = 4, AVX512_LINES = QK8_A8 / AVX512_GROUP, AVX512_COLUMNS = 6 };

struct avx512_column { /* a quantized block of x */
    float scale;
    int32_t start; /* -128 times the sum of q */
    int8_t q[AVX512_LINES][AVX512_GROUP];
};

static size_t avx512_rows(void) {
    return AVX512_ROWS;
}

static void avx512_quantize_columns(const float *x, void *columns, size_t blocks) {
    struct avx512_column *column = columns;
    for (size_t b = 0; b < blocks; ++b, ++column, x += QK8_A8) {
        uint16_t h;
        const __m256i q = x86_quantize_block(x, &h);
        column->scale = float_of_half(h);
        column->start = -x86_sum(_mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(INT8_MIN), q));
        _mm256_storeu_si256((void *)column->q, q);
    }
}

/* sum = f32(sum + f32(f32(sumi) * f32(dw * dx))), unfused (Q8A8-DOT-2, Q8A8-DOT-3) */
static inline __m512 avx512_add_terms(__m512 sums, __m512i sumi, __m512 dw, float dx) {
    return _mm512_add_ps(sums, _mm512_mul_ps(_mm512_cvtepi32_ps(sumi), _mm512_mul_ps(dw, _mm512_set1_ps(dx))));
}

static inline __m512 avx512_scales(const uint16_t *scales) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)scales));
}

/* Rows of x whose blocks follow each other, apart bytes from row to row; or 0: whose blocks are interleaved (product.h).
 * count and whether apart is 0 are constants wherever this is inlined; flip: 0, or the bits that make w unsigned. */
static inline __attribute__((always_inline)) void avx512_few_columns(const uint8_t *ints, const uint16_t *scales,
                                                                     size_t blocks, const uint8_t *columns,
                                                                     size_t apart, size_t count, uint32_t flip,
                                                                     float *out, size_t stride) {
    enum { ALL = AVX512_VECTORS, LANES = AVX512_LANES, BYTES = sizeof(struct avx512_column) };
    const size_t row = apart != 0 ? apart : BYTES;
    const size_t block = apart != 0 ? BYTES : count * BYTES;
    __m512 sums[AVX512_COLUMNS][ALL];
    UNROLL
    for (size_t c = 0; c < count; ++c) {
        for (size_t v = 0; v < ALL; ++v) {
            sums[c][v] = _mm512_loadu_ps(out + c * stride + v * LANES);
        }
    }
    for (size_t b = 0; b < blocks; ++b, columns += block, scales += AVX512_ROWS) {
        const struct avx512_column *column[AVX512_COLUMNS];
        __m512i sumi[AVX512_COLUMNS][ALL];
        UNROLL
        for (size_t c = 0; c < count; ++c) {
            column[c] = (const void *)(columns + c * row);
            for (size_t v = 0; v < ALL; ++v) {
                sumi[c][v] = _mm512_set1_epi32(column[c]->start);
            }
        }
        for (size_t j = 0; j < AVX512_LINES; ++j, ints += AVX512_ROWS * AVX512_GROUP) {
            __m512i w[ALL];
            for (size_t v = 0; v < ALL; ++v) {
                w[v] = _mm512_load_si512(ints + v * LANES * AVX512_GROUP);
                w[v] = flip != 0 ? _mm512_xor_si512(w[v], _mm512_set1_epi32((int32_t)flip)) : w[v];
            }
            /* The instruction itself reads four of x into every lane. A compiler loads them once for both vectors, an
             * instruction more; a core that runs two threads starts too few instructions for that. */
            UNROLL
            for (size_t c = 0; c < count; ++c) {
                for (size_t v = 0; v < ALL; ++v) {
                    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sumi[c][v]) : "v"(w[v]), "m"(column[c]->q[j]));
                }
            }
        }
        for (size_t v = 0; v < ALL; ++v) {
            const __m512 dw = avx512_scales(scales + v * LANES);
            UNROLL
            for (size_t c = 0; c < count; ++c) {
                sums[c][v] = avx512_add_terms(sums[c][v], sumi[c][v], dw, column[c]->scale);
            }
        }
    }
    UNROLL
    for (size_t c = 0; c < count; ++c) {
        for (size_t v = 0; v < ALL; ++v) {
            _mm512_storeu_ps(out + c * stride + v * LANES, sums[c][v]);
        }
    }
}

/* At most AVX512_COLUMNS rows of x. */
static inline __attribute__((always_inline)) void avx512_tile(const uint8_t *ints, const uint16_t *scales, size_t blocks,
                                                              const uint8_t *columns, size_t apart, size_t count,
                                                              uint32_t flip, float *sums, size_t stride) {
    switch (count) {
#define SOME(n)                                                                                                        \
    case n:                                                                                                            \
        avx512_few_columns(ints, scales, blocks, columns, apart, n, flip, sums, stride);                               \
        break;
        SOME(1)
        SOME(2)
        SOME(3)
        SOME(4)
        SOME(5)
    default:
        avx512_few_columns(ints, scales, blocks, columns, apart, AVX512_COLUMNS, flip, sums, stride);
    }
}

#endif
