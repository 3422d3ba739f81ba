/* AMX-INT8, for x86-64 processors since Sapphire Rapids; what is not a product of 16 rows of x is avx512.h's.
 *
 * TDPBSSD adds to a tile of 16 x 16 int32 the products of 16 x 32 by 32 x 16 signed bytes, the second interleaved in
 * groups of four: a block of sixteen rows of x by a block of sixteen rows of w, as they lie in memory. It is exact for any
 * int8 (Q8A8-DOT-1). The sixteen registers of sums are scaled and added to by AVX-512. */
#define _GNU_SOURCE /* syscall */
#include "avx512.h"

#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { COLUMNS = 16, TILE_BYTES = 64, REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
enum { PERMISSION_UNKNOWN, PERMITTED, REFUSED };

/* Linux lets a process use tiles when it has asked. It refuses where a signal stack is too small for the registers. */
static int permitted(void) {
    static atomic_int permission = PERMISSION_UNKNOWN;
    int known = atomic_load_explicit(&permission, memory_order_relaxed);
    if (known == PERMISSION_UNKNOWN) {
        known = syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 ? PERMITTED : REFUSED;
        atomic_store_explicit(&permission, known, memory_order_relaxed);
    }
    return known == PERMITTED;
}

/* Tiles 0 and 1 are sums, 2 and 3 blocks of x, 4 and 5 blocks of w. */
static void configure(void) {
    _Alignas(64) struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1};
    for (size_t t = 0; t < 6; ++t) {
        shape.rows[t] = t < 4 ? COLUMNS : AVX512_LINES;
        shape.row_bytes[t] = t == 2 || t == 3 ? QK8_A8 : TILE_BYTES;
    }
    _tile_loadconfig(&shape);
}

static inline __attribute__((always_inline)) void add_tile(__m512 *sums, int32_t (*sumi)[AVX512_LANES], __m512 dw,
                                                           const uint8_t *columns, size_t apart) {
    for (size_t c = 0; c < COLUMNS; ++c) {
        const struct avx512_column *column = (const void *)(columns + c * apart);
        sums[c] = avx512_add_terms(sums[c], _mm512_load_si512(sumi[c]), dw, column->scale);
    }
}

/* Loading tiles, multiplying them, storing the sums and adding them take long one after the other: each step does one of
 * these for a block of its own, so that four are under way. `now` is the parity of the step and `other` 1 minus it; x and
 * w are the tiles of each. All name registers. */
#define STEP(now, other, x_now, x_other, w_now, w_other)                                                               \
    if (step >= 3 && step - 3 < blocks) {                                                                              \
        const size_t b = step - 3;                                                                                     \
        add_tile(sums, sumi[other], avx512_scales(scales + b * AVX512_ROWS), columns + b * BYTES, apart);              \
    }                                                                                                                  \
    if (step >= 2 && step - 2 < blocks) {                                                                              \
        _tile_stored(now, sumi[now], TILE_BYTES);                                                                      \
    }                                                                                                                  \
    if (step >= 1 && step - 1 < blocks) {                                                                              \
        _tile_zero(other);                                                                                             \
        _tile_dpbssd(other, x_other, w_other);                                                                         \
    }                                                                                                                  \
    if (step < blocks) {                                                                                               \
        _tile_loadd(x_now, columns + step * BYTES + Q, apart);                                                         \
        _tile_loadd(w_now, ints + step * AVX512_ROWS * QK8_A8, AVX512_ROWS * AVX512_GROUP);                            \
    }                                                                                                                  \
    ++step;

/* Sixteen rows of x times one vector of rows of the tile. */
static void sixteen_columns(const uint8_t *ints, const uint16_t *scales, size_t blocks, const uint8_t *columns,
                            size_t apart, float *out, size_t stride) {
    enum { BYTES = sizeof(struct avx512_column), Q = offsetof(struct avx512_column, q) };
    _Alignas(64) int32_t sumi[2][COLUMNS][AVX512_LANES];
    __m512 sums[COLUMNS];
    for (size_t c = 0; c < COLUMNS; ++c) {
        sums[c] = _mm512_loadu_ps(out + c * stride);
    }
    for (size_t step = 0; step < blocks + 3;) {
        STEP(0, 1, 2, 3, 4, 5)
        STEP(1, 0, 3, 2, 5, 4)
    }
    for (size_t c = 0; c < COLUMNS; ++c) {
        _mm512_storeu_ps(out + c * stride, sums[c]);
    }
}

static void tile(const uint8_t *ints, const uint16_t *scales, size_t blocks, const void *columns, size_t apart,
                 size_t count, float *sums, size_t stride) {
    const uint8_t *column = columns;
    if (count >= COLUMNS && permitted()) {
        configure();
        for (; count >= COLUMNS; count -= COLUMNS, column += COLUMNS * apart, sums += COLUMNS * stride) {
            for (size_t v = 0; v < AVX512_VECTORS; ++v) {
                sixteen_columns(ints + v * TILE_BYTES, scales + v * AVX512_LANES, blocks, column, apart,
                                sums + v * AVX512_LANES, stride);
            }
        }
        _tile_release();
    }
    for (size_t parts = (count + AVX512_COLUMNS - 1) / AVX512_COLUMNS; parts > 0; --parts) {
        const size_t some = (count + parts - 1) / parts;
        avx512_tile(ints, scales, blocks, column, apart, some, 0x80808080u, sums, stride);
        count -= some;
        column += some * apart;
        sums += some * stride;
    }
}

static const struct q8a8_product product = {
    .rows = avx512_rows,
    .group = AVX512_GROUP,
    .column_bytes = sizeof(struct avx512_column),
    .quantize = avx512_quantize_columns,
    .tile = tile,
};

static void mul_mat(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out) {
    q8a8_product_mul_mat(&product, m, n, k, w, x, out);
}

extern const struct q8a8_kernel q8a8_kernel_amx;
const struct q8a8_kernel q8a8_kernel_amx = {
    .name = "amx",
    .needs = {"avx512bw", "avx512vl", "avx512_vnni", "amx_int8"},
    .vec_dot = rows_vec_dot,
    .mul_mat = mul_mat,
    .product = &product,
    ROWS_KERNEL_FUNCTIONS,
};
