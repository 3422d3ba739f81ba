/* Half conversions, quantization and dequantization of a block on x86-64 with AVX2 and F16C, or AVX-512, bit-identical to
 * the scalar kernel. F16C rounds as it is told here and keeps subnormal halves, whatever MXCSR says. */
#ifndef Q8A8_X86_VALUES_H
#define Q8A8_X86_VALUES_H

#include "kernel.h"

#include <immintrin.h>
#include <string.h>

static inline float float_of_half(uint16_t half) {
    return _cvtsh_ss(half);
}

/* x * inv rounded to integers, halves away from zero (Q8A8-QNT-4): v + copysign(0.5 - 2^-25, v), truncated. The addend
 * is the float before 0.5, so that a v below a half stays below; where v is a half, the sum rounds up to the integer.
 * Outside the domain (Q8A8-QNT-11) the conversion gives INT_MIN, and the narrowing -128. */
#if defined(__AVX512BW__)

static inline __m128i x86_quantize_16(const float *x, __m512 inv) {
    const __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x), inv);
    const __m512i sign = _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(INT32_MIN));
    const __m512 half = _mm512_castsi512_ps(_mm512_or_si512(sign, _mm512_castps_si512(_mm512_set1_ps(0x1.fffffep-2f))));
    return _mm512_cvtsepi32_epi8(_mm512_cvttps_epi32(_mm512_add_ps(v, half)));
}

static inline __m256i x86_quantize_32(const float *x, float inv) {
    const __m512 invs = _mm512_set1_ps(inv);
    return _mm256_set_m128i(x86_quantize_16(x + 16, invs), x86_quantize_16(x, invs));
}

static inline __m256 x86_magnitudes_32(const float *x) { /* the largest of each four */
    const __m512 most = _mm512_max_ps(_mm512_abs_ps(_mm512_loadu_ps(x)), _mm512_abs_ps(_mm512_loadu_ps(x + 16)));
    return _mm256_max_ps(_mm512_castps512_ps256(most),
                         _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(most), 1)));
}

#else

static inline __m256i x86_quantize_8(const float *x, __m256 inv) {
    const __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x), inv);
    const __m256 half = _mm256_or_ps(_mm256_and_ps(v, _mm256_set1_ps(-0.0f)), _mm256_set1_ps(0x1.fffffep-2f));
    return _mm256_cvttps_epi32(_mm256_add_ps(v, half));
}

static inline __m256i x86_quantize_32(const float *x, float inv) {
    const __m256 invs = _mm256_set1_ps(inv);
    const __m256i low = _mm256_packs_epi32(x86_quantize_8(x, invs), x86_quantize_8(x + 8, invs));
    const __m256i high = _mm256_packs_epi32(x86_quantize_8(x + 16, invs), x86_quantize_8(x + 24, invs));
    /* packing works in halves of 128 bits: put the groups of four into their order */
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

static inline __m256 x86_magnitudes_32(const float *x) { /* the largest of each four */
    __m256 most = _mm256_setzero_ps();
    for (size_t j = 0; j < QK8_A8; j += 8) {
        most = _mm256_max_ps(most, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), _mm256_loadu_ps(x + j)));
    }
    return most;
}

#endif

static inline float x86_largest(__m256 lanes) {
    __m128 most = _mm_max_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1));
    most = _mm_max_ps(most, _mm_movehl_ps(most, most));
    return _mm_cvtss_f32(_mm_max_ss(most, _mm_movehdup_ps(most)));
}

/* d = f32(amax / 127), h = f16(d), inv = f32(127 / amax) if h != 0 else 0 */
static inline uint16_t x86_scale(float amax, float *inv) {
    const uint16_t h = _cvtss_sh(amax / 127.0f, _MM_FROUND_TO_NEAREST_INT);
    *inv = h != 0 ? 127.0f / amax : 0.0f;
    return h;
}

/* A block of 32 under its scale, as a vector (Q8A8-QNT-1 to Q8A8-QNT-6). */
static inline __m256i x86_quantize_block(const float *x, uint16_t *h) {
    float inv;
    *h = x86_scale(x86_largest(x86_magnitudes_32(x)), &inv);
    return x86_quantize_32(x, inv);
}

/* Quantize count floats under one scale; returns the scale. */
static inline uint16_t quantize_values(const float *x, int8_t *q, size_t count) {
    if (count == QK8_A8) {
        uint16_t scale;
        const __m256i block = x86_quantize_block(x, &scale);
        _mm256_storeu_si256((__m256i *)(void *)q, block);
        return scale;
    }
    const size_t tail = count % 32;
    const size_t whole = count - tail;
    float last[32] = {0}; /* the tail, padded with zeros: never read past count */
    if (tail != 0) {
        memcpy(last, x + whole, tail * sizeof *x);
    }
    __m256 most = tail != 0 ? x86_magnitudes_32(last) : _mm256_setzero_ps();
    for (size_t j = 0; j < whole; j += 32) {
        most = _mm256_max_ps(most, x86_magnitudes_32(x + j));
    }
    float inv;
    const uint16_t h = x86_scale(x86_largest(most), &inv);
    for (size_t j = 0; j < whole; j += 32) {
        _mm256_storeu_si256((__m256i *)(void *)(q + j), x86_quantize_32(x + j, inv));
    }
    if (tail != 0) {
        int8_t last_q[32];
        _mm256_storeu_si256((__m256i *)(void *)last_q, x86_quantize_32(last, inv));
        memcpy(q + whole, last_q, tail);
    }
    return h;
}

/* y_j = f32(h) * q_j for the 32 elements of a block, exact (Q8A8-DEQ-1). */
static inline void dequantize_block(uint16_t half, const int8_t *q, float *y) {
    const __m256 d = _mm256_set1_ps(float_of_half(half));
    for (size_t j = 0; j < QK8_A8; j += 8) {
        const __m256i wide = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(q + j)));
        _mm256_storeu_ps(y + j, _mm256_mul_ps(_mm256_cvtepi32_ps(wide), d));
    }
}

static inline __m256i x86_load_32(const void *p) {
    return _mm256_loadu_si256(p);
}

static inline int32_t x86_sum(__m256i lanes) {
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
    sum = _mm_add_epi32(sum, _mm_unpackhi_epi64(sum, sum));
    return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 1)));
}

#endif
