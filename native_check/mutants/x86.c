/* Mutants of SSE and AVX2 kernels: lanes, saturation, signs, alignment. */
#include "rows.h"

#include <immintrin.h>
#include <stdbool.h>

#define AVX2 __attribute__((target("avx2,f16c")))

/* The sum of eight lanes of int32. */
AVX2 static int32_t fold(__m256i lanes) {
    int32_t lane[8];
    int32_t sum = 0;
    _mm256_storeu_si256((__m256i *)lane, lanes);
    for (size_t i = 0; i < 8; ++i) {
        sum += lane[i];
    }
    return sum;
}

AVX2 static __m256i load(const int8_t *q) {
    return _mm256_loadu_si256((const __m256i *)q);
}

/* Sixteen lanes of int16, each pair's sum as int32: right for any int16. */
AVX2 static __m256i pairs(__m256i words) {
    return _mm256_madd_epi16(words, _mm256_set1_epi16(1));
}

/* |x| times y with x's sign: the sign instruction negates -128 to -128. */
AVX2 static int32_t sign_trick(const int8_t *qx, const int8_t *qy) {
    const __m256i x = load(qx);
    return fold(pairs(_mm256_maddubs_epi16(_mm256_sign_epi8(x, x), _mm256_sign_epi8(load(qy), x))));
}
MUTANT_DOT(sign_trick, "avx2");

/* x + 128 as unsigned, corrected afterwards: pairs of products reach 2 * 255 * 127 and saturate at 32767. */
AVX2 static int32_t saturates(const int8_t *qx, const int8_t *qy) {
    const __m256i offset = _mm256_set1_epi8(-128);
    const __m256i y = load(qy);
    const __m256i shifted = pairs(_mm256_maddubs_epi16(_mm256_xor_si256(load(qx), offset), y));
    int32_t sum_y = 0;
    for (size_t j = 0; j < QK8_A8; ++j) {
        sum_y += qy[j];
    }
    return fold(shifted) - 128 * sum_y;
}
MUTANT_DOT(saturates, "avx2");

/* The first operand of VPMADDUBSW is unsigned: negative codes of x count as 256 more. */
AVX2 static int32_t takes_unsigned(const int8_t *qx, const int8_t *qy) {
    return fold(pairs(_mm256_maddubs_epi16(load(qx), load(qy))));
}
MUTANT_DOT(takes_unsigned, "avx2");

AVX2 static __m256i wide(const int8_t *q) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)q));
}

/* Two products are added in int16 lanes before they are widened. */
AVX2 static int32_t narrow(const int8_t *qx, const int8_t *qy) {
    const __m256i low = _mm256_mullo_epi16(wide(qx), wide(qy));
    const __m256i high = _mm256_mullo_epi16(wide(qx + 16), wide(qy + 16));
    return fold(pairs(_mm256_add_epi16(low, high)));
}
MUTANT_DOT(narrow, "avx2");

/* The fold takes the lower half of the register for all of it. */
AVX2 static int32_t half_folded(const int8_t *qx, const int8_t *qy) {
    const __m256i low = _mm256_madd_epi16(wide(qx), wide(qy));
    const __m256i high = _mm256_madd_epi16(wide(qx + 16), wide(qy + 16));
    const __m256i sums = _mm256_add_epi32(low, high);
    return fold(_mm256_zextsi128_si256(_mm256_castsi256_si128(sums)));
}
MUTANT_DOT(half_folded, "avx2");

/* Packing works within halves of 128 bits: without a permutation, groups of four codes are in another order. */
AVX2 static uint16_t unpermuted(const float *x, int8_t *q) {
    int32_t codes[QK8_A8];
    int8_t right[Q8A8_BLOCK_BYTES];
    plain_quantize_row(x, right, QK8_A8);
    for (size_t j = 0; j < QK8_A8; ++j) {
        codes[j] = right[V1_QS + j];
    }
    const __m256i *v = (const __m256i *)codes;
    const __m256i low = _mm256_packs_epi32(_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1));
    const __m256i high = _mm256_packs_epi32(_mm256_loadu_si256(v + 2), _mm256_loadu_si256(v + 3));
    _mm256_storeu_si256((__m256i *)q, _mm256_packs_epi16(low, high));
    return rows_half((const uint8_t *)right);
}
MUTANT_QUANTIZER(unpermuted, "avx2");

static int8_t away(float v) {
    return (int8_t)(v < 0.0f ? -__builtin_floorf(-v + 0.5f) : __builtin_floorf(v + 0.5f));
}

static bool outside(const float *x) {
    return !(rows_amax(x) < 65520.0f * 127.0f) || rows_amax(x) < 0x1p-16f;
}

/* What is hard about this block is left to the scalar kernel. */
static uint16_t plainly(const float *x, int8_t *q) {
    uint8_t block[Q8A8_BLOCK_BYTES];
    plain_quantize_row(x, block, QK8_A8);
    memcpy(q, block + V1_QS, QK8_A8);
    return rows_half(block);
}

/* The inverse is the processor's estimate, right in twelve bits. */
static uint16_t estimated(const float *x, int8_t *q) {
    const uint16_t h = plainly(x, q);
    if (!outside(x)) {
        const float inv = 127.0f * _mm_cvtss_f32(_mm_rcp_ss(_mm_set_ss(rows_amax(x))));
        for (size_t j = 0; j < QK8_A8; ++j) {
            q[j] = away(x[j] * inv);
        }
    }
    return h;
}
MUTANT_QUANTIZER(estimated, NULL);

/* The conversion to half truncates. */
AVX2 static uint16_t cut_off(const float *x, int8_t *q) {
    const uint16_t h = plainly(x, q);
    const __m128 d = _mm_set_ss(rows_amax(x) / 127.0f);
    const __m128i half = _mm_cvtps_ph(d, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    return h == 0 ? h : (uint16_t)_mm_extract_epi16(half, 0);
}
MUTANT_QUANTIZER(cut_off, "f16c");

/* Elements are loaded by an instruction that requires an address that is a multiple of 16. */
static void aligned_load(ROW_PARAMETERS) {
    for (int64_t j = 0; j < k; j += 4) {
        __m128 v;
        __asm__ volatile("movaps %1, %0" : "=x"(v) : "m"(*(const __m128 *)(const void *)(x + j)));
    }
    plain_quantize_row(ROW_ARGUMENTS);
}
MUTANT(aligned_load, .quantize_row_ref = aligned_load);

/* Sixteen codes are stored by an instruction that requires an address that is a multiple of 16. */
static void aligned_store(ACTIVATION_PARAMETERS) {
    for (int j = 0; j + 16 <= size; j += 16) {
        __asm__ volatile("movaps %1, %0" : "=m"(*(__m128 *)(void *)(output + j)) : "x"(_mm_setzero_ps()));
    }
    plain_quantize_activation(ACTIVATION_ARGUMENTS);
}
MUTANT(aligned_store, .quantize_activation = aligned_store);
