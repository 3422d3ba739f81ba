/* The matrix product by lanes, shared by the kernels: packed weights, tiles, threads. A kernel adds one function.
 *
 * Each vector lane owns an output row, so that the blocks of every output are added in the scalar order without a
 * horizontal step, and no bit depends on n, on a tile or on a thread (Q8A8-MUL-9). The weights are packed for it: a
 * tile is `rows` rows; its integers, block after block, are interleaved in groups, and its scales follow.
 *
 *     a block of a tile, rows = 4, group = 4:   | w0[0..3] | w1[0..3] | w2[0..3] | w3[0..3] |
 *                                               | w0[4..7] | w1[4..7] | ...                 |   8 such lines
 *     its scales:                               | d0 | d1 | d2 | d3 |                           binary16
 */
#ifndef Q8A8_PRODUCT_H
#define Q8A8_PRODUCT_H

#include "q8a8.h"

/* The largest tile, in rows: the lanes of int32 in two registers of 2048 bits. */
enum { Q8A8_MAX_ROWS = 128 };

/* A block of a quantized row of x, for kernels that need no other form of it. */
struct q8a8_column {
    float scale;
    int32_t sum; /* of q: weights packed as w + 128 need -128 * sum beside the integer sum */
    int8_t q[QK8_A8];
};

/* What a kernel plugs in. */
struct q8a8_product {
    size_t (*rows)(void); /* of a tile, at most Q8A8_MAX_ROWS; a function because of vector lengths known at run time */
    size_t group;         /* integers of a row that stay together: a divisor of 32 */
    uint8_t flip;         /* is added to each byte of the weights, modulo 256: 0x80 makes int8 w the unsigned w + 128 */
    size_t columns;       /* rows of x that a tile takes at once, at most 8; 0: as many as there are */
    size_t column_bytes;  /* of a quantized block of x, such as sizeof(struct q8a8_column) */

    /* x[32 * blocks] -> blocks quantized blocks, column_bytes apart, 4-byte aligned (Q8A8-MUL-4). */
    void (*quantize)(const float *x, void *column, size_t blocks);

    /* Adds blocks of a tile times count rows of x: sums[c * stride + r] += the terms of row r and row c of x, block
     * after block: sum = f32(sum + f32(f32(sumi) * f32(dw * dx))) (Q8A8-DOT-2, Q8A8-DOT-3).
     * ints: blocks * rows * 32 bytes, 64-byte aligned if rows * 32 is a multiple of 64. scales: blocks * rows binary16,
     * as this machine stores integers. columns: row c is c * apart bytes from row 0; but where `columns` is not 0 the
     * rows' blocks are interleaved: block b of row c is the (b * count + c)-th. */
    void (*tile)(const uint8_t *ints, const uint16_t *scales, size_t blocks, const void *columns, size_t apart,
                 size_t count, float *sums, size_t stride);
};

/* mul_mat_q8_a8 by a kernel's tiles, on the calling thread, with a fixed amount of stack and no other memory. */
void q8a8_product_mul_mat(const struct q8a8_product *product, int64_t m, int64_t n, int64_t k, const void *w,
                          const float *x, float *out);

/* The functions of q8a8.h for packed weights. */
struct q8a8_packed *q8a8_product_pack(const struct q8a8_product *product, int64_t m, int64_t k, const void *w);
int q8a8_product_mul_mat_packed(const struct q8a8_packed *packed, int64_t n, const float *x, float *out, int threads);
void q8a8_product_free(struct q8a8_packed *packed);

#endif
