/* AVX-512 VNNI, for x86-64 processors since Cascade Lake and Zen 4 (avx512.h). */
#include "avx512.h"

static void tile(const uint8_t *ints, const uint16_t *scales, size_t blocks, const void *columns, size_t apart,
                 size_t count, float *sums, size_t stride) {
    (void)apart; /* the blocks are interleaved */
    avx512_tile(ints, scales, blocks, columns, 0, count, 0, sums, stride);
}

static const struct q8a8_product product = {
    .rows = avx512_rows,
    .group = AVX512_GROUP,
    .flip = 0x80,
    .columns = AVX512_COLUMNS,
    .column_bytes = sizeof(struct avx512_column),
    .quantize = avx512_quantize_columns,
    .tile = tile,
};

static void mul_mat(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out) {
    q8a8_product_mul_mat(&product, m, n, k, w, x, out);
}

extern const struct q8a8_kernel q8a8_kernel_avx512_vnni;
const struct q8a8_kernel q8a8_kernel_avx512_vnni = {
    .name = "avx512-vnni",
    .needs = {"f16c", "avx512bw", "avx512vl", "avx512_vnni"},
    .vec_dot = rows_vec_dot,
    .mul_mat = mul_mat,
    .product = &product,
    ROWS_KERNEL_FUNCTIONS,
};
