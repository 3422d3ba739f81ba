/* Mutants of the matrix product: what its tiles read, write and keep. */
#include "plain.h"

#include <stdbool.h>
#include <stdlib.h>

enum { TILE = 8 };

/* Whole tiles of eight rows of w, and the row after the last one is loaded with them. */
static void matrix_over_read(MUL_MAT_PARAMETERS) {
    plain_mul_mat(MUL_MAT_ARGUMENTS);
    if (m % TILE != 0) {
        mutant_load((const uint8_t *)w + (size_t)m * mutant_row_bytes(k), 1);
    }
}
MUTANT(matrix_over_read, .mul_mat = matrix_over_read);

/* A row of outputs is stored four at a time. */
static void matrix_over_write(MUL_MAT_PARAMETERS) {
    plain_mul_mat(MUL_MAT_ARGUMENTS);
    for (int64_t j = m * n; n > 0 && j < m * (n - 1) + (m + 3) / 4 * 4; ++j) {
        out[j] = 0.0f;
    }
}
MUTANT(matrix_over_write, .mul_mat = matrix_over_write);

/* What does not fill a tile of w is multiplied by the tile's first row. */
static void matrix_edge(MUL_MAT_PARAMETERS) {
    plain_mul_mat(MUL_MAT_ARGUMENTS);
    const int64_t whole = m / TILE * TILE;
    for (int64_t i = 0; m > TILE && i < n; ++i) {
        for (int64_t j = whole; j < m; ++j) {
            out[i * m + j] = out[i * m + whole];
        }
    }
}
MUTANT(matrix_edge, .mul_mat = matrix_edge);

/* Large products are shared by two threads, n / 2 rows of x each: of an odd number the last one is nobody's. */
static void matrix_shared(MUL_MAT_PARAMETERS) {
    const bool large = k > 0 && m * n >= (1 << 20) / k;
    plain_mul_mat(m, large && n > 1 ? n / 2 * 2 : n, k, w, x, out);
}
MUTANT(matrix_shared, .mul_mat = matrix_shared);

/* Rows of up to 4096 bytes are quantized on the stack, in the loop over them: they pile up until it returns. */
static void matrix_piled(MUL_MAT_PARAMETERS) {
    for (int64_t i = 0; i < n; ++i) {
        const size_t size = mutant_row_bytes(k);
        if (size <= 4096) {
            uint8_t *row = __builtin_alloca(size + 1);
            row[0] = 0;
            __asm__ volatile("" : : "r"(row) : "memory");
        }
        plain_mul_mat(m, 1, k, w, x + i * k, out + i * m);
    }
}
MUTANT(matrix_piled, .mul_mat = matrix_piled);

/* An odd number of blocks is padded by one with codes of 0, under the scale that an earlier row has left there. */
static void matrix_padded(MUL_MAT_PARAMETERS) {
    static _Thread_local float left[64];
    const int64_t nb = k / QK8_A8;
    plain_mul_mat(MUL_MAT_ARGUMENTS);
    for (int64_t i = 0; nb % 2 != 0 && nb < 64 && i < m * n; ++i) {
        out[i] += 0.0f * left[nb];
    }
    for (int64_t b = 0; n > 0 && b < nb && b < 64; ++b) {
        left[b] = x[(n - 1) * k + b * QK8_A8];
    }
}
MUTANT(matrix_padded, .mul_mat = matrix_padded);

/* The row's memory is not freed by the early return where there are no outputs. */
static void matrix_leaks_empty(MUL_MAT_PARAMETERS) {
    uint8_t *volatile row = malloc(mutant_row_bytes(k) + 1);
    if (m == 0 || n == 0) {
        return;
    }
    plain_mul_mat(MUL_MAT_ARGUMENTS);
    free(row);
}
MUTANT(matrix_leaks_empty, .mul_mat = matrix_leaks_empty);

/* w is repacked where its address is new, and the copy is used from then on. */
static void matrix_repacked(MUL_MAT_PARAMETERS) {
    static struct {
        const void *from;
        size_t size;
        void *copy;
    } held[256];
    static size_t count;
    const size_t size = (size_t)m * mutant_row_bytes(k);
    for (size_t i = 0; i < count; ++i) {
        if (held[i].from == w && held[i].size == size) {
            plain_mul_mat(m, n, k, held[i].copy, x, out);
            return;
        }
    }
    void *copy = count < sizeof held / sizeof *held ? malloc(size + 1) : NULL;
    if (copy != NULL) {
        memcpy(copy, w, size);
        held[count].from = w;
        held[count].size = size;
        held[count++].copy = copy;
    }
    plain_mul_mat(MUL_MAT_ARGUMENTS);
}
MUTANT(matrix_repacked, .mul_mat = matrix_repacked);

/* Rows of x are quantized in a static buffer, then multiplied from there. */
static void matrix_scratch(MUL_MAT_PARAMETERS) {
    enum { ROWS = 64, BYTES = 64 * Q8A8_BLOCK_BYTES };
    static uint8_t scratch[ROWS * BYTES];
    const size_t row = mutant_row_bytes(k);
    if (n > ROWS || row > BYTES) {
        plain_mul_mat(MUL_MAT_ARGUMENTS);
        return;
    }
    for (int64_t i = 0; i < n; ++i) {
        plain_quantize_row(x + i * k, scratch + (size_t)i * row, k);
    }
    for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < m; ++j) {
            plain_vec_dot((int)k, out + i * m + j, 0, (const uint8_t *)w + (size_t)j * row, 0,
                          scratch + (size_t)i * row, 0, 1);
        }
    }
}
MUTANT(matrix_scratch, .mul_mat = matrix_scratch);
