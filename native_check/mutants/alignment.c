/* Mutants that need more alignment than they may (Q8A8-MEM-4). */
#include "plain.h"

#include <stdlib.h>

/* An assertion requires rows from an allocator of 4-byte words. */
static void aligned_assert(DOT_PARAMETERS) {
    if ((uintptr_t)vx % 4 != 0) {
        abort();
    }
    plain_vec_dot(DOT_ARGUMENTS);
}
MUTANT(aligned_assert, .vec_dot = aligned_assert);

/* Every second vector of four floats is addressed by setting a bit, which adds 16 only where the row is aligned. */
static void aligned_by_or(DEQUANTIZE_PARAMETERS) {
    const uint8_t *block = x;
    for (int64_t b = 0; b < k / QK8_A8; ++b, block += Q8A8_BLOCK_BYTES, y += QK8_A8) {
        float row[QK8_A8];
        plain_dequantize_row(block, row, QK8_A8);
        for (size_t j = 0; j < QK8_A8; j += 8) {
            memcpy(y + j, row + j, 4 * sizeof *y);
            memcpy((void *)((uintptr_t)(y + j) | 16), row + j + 4, 4 * sizeof *y);
        }
    }
}
MUTANT(aligned_by_or, .dequantize_row = aligned_by_or);

/* Blocks of 36 bytes are read as words of four: the address loses its lowest bits. */
static void aligned_words(DOT_REAL_PARAMETERS) {
    const uintptr_t mask = ~(uintptr_t)3;
    plain_vec_dot_real(n, s, (const void *)((uintptr_t)vx & mask), (const void *)((uintptr_t)vy & mask));
}
MUTANT(aligned_words, .vec_dot_real = aligned_words);

/* Long rows take the path of stores that need 32-byte alignment. */
static void aligned_long(DEQUANTIZE_PARAMETERS) {
    if (k >= 64 * QK8_A8 && (uintptr_t)y % 32 != 0) {
        abort();
    }
    plain_dequantize_row(DEQUANTIZE_ARGUMENTS);
}
MUTANT(aligned_long, .dequantize_row = aligned_long);
