/* The exact sum of a block's 32 products, with AVX2 (Q8A8-DOT-1).
 * The codes become int16, and VPMADDWD adds pairs of products in int32. VPMADDUBSW is shorter and saturates: with
 * codes of -128 its sums are wrong. */
#include <immintrin.h>

static inline __m256i widened(const int8_t *q) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)q));
}

static inline int32_t block_sum(const int8_t *x, const int8_t *y) {
    const __m256i low = _mm256_madd_epi16(widened(x), widened(y));
    const __m256i high = _mm256_madd_epi16(widened(x + 16), widened(y + 16));
    const __m256i eight = _mm256_add_epi32(low, high);
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}
