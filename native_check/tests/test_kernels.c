/* Every kernel that this CPU can run equals the scalar one: all functions, bit for bit, with unaligned outputs and
 * inputs. The arguments, if any, are the kernels that must have been run; after --only, no others are. */
#include "inputs.h"
#include "target.h"

#include <stdlib.h>

extern const struct q8a8_kernel q8a8_kernel_scalar;
static const struct q8a8_kernel *const scalar = &q8a8_kernel_scalar;

enum { MAX_BLOCKS = 257, ROOM = 64, POISON = 0xee };

/* Block counts around the unrolling factors and table sizes of kernels. */
static const int block_counts[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 255, 256, 257};
enum { BLOCK_COUNTS = sizeof block_counts / sizeof *block_counts };

/* The outputs of the two kernels, with bytes on both sides that must not change. */
static union {
    uint8_t bytes[ROOM + 4 * QK8_A8 * MAX_BLOCKS + ROOM];
    float align;
} one, two;

static float *floats_of(uint8_t *bytes) {
    void *start = bytes + ROOM;
    return start;
}

static void poison(void) {
    memset(one.bytes, POISON, sizeof one.bytes);
    memset(two.bytes, POISON, sizeof two.bytes);
}

static void compare(const struct q8a8_kernel *kernel, const char *function, int blocks) {
    check_that(memcmp(one.bytes, two.bytes, sizeof one.bytes) == 0, "%s: %s of %d blocks differs from scalar",
               kernel->name, function, blocks);
}

/* Outside the domain the values are unspecified: only the bytes around the output must agree. */
static void forget_values(enum flavour flavour, size_t shift, size_t bytes) {
    if (flavour >= FLAVOURS_IN_DOMAIN) {
        memset(one.bytes + ROOM + shift, 0, bytes);
        memset(two.bytes + ROOM + shift, 0, bytes);
    }
}

static void compare_quantizers(const struct q8a8_kernel *kernel, enum flavour flavour) {
    static float x[1 + QK8_A8 * MAX_BLOCKS];
    for (size_t i = 0; i < BLOCK_COUNTS; ++i) {
        const int64_t k = (int64_t)block_counts[i] * QK8_A8;
        const float *from = x + i % 2; /* 4-byte alignment only (Q8A8-MEM-4) */
        const size_t shift = i % 2 * 2;
        uint8_t *place_one = one.bytes + ROOM + shift;
        uint8_t *place_two = two.bytes + ROOM + shift;
        const size_t blocks = (size_t)block_counts[i];
        fill_floats(x, sizeof x / sizeof *x, flavour);
        poison();
        scalar->quantize_row(from, place_one, k);
        kernel->quantize_row(from, place_two, k);
        forget_values(flavour, shift, blocks * Q8A8_BLOCK_BYTES);
        compare(kernel, "quantize_row", block_counts[i]);
        kernel->quantize_row_ref(from, place_two, k);
        forget_values(flavour, shift, blocks * Q8A8_BLOCK_BYTES);
        compare(kernel, "quantize_row_ref", block_counts[i]);
        for (int field = Q8A8_WEIGHT_SCALE; field <= Q8A8_ACTIVATION_SCALE; ++field) {
            poison();
            scalar->quantize_row_v2(from, place_one, k, (enum q8a8_field)field);
            kernel->quantize_row_v2(from, place_two, k, (enum q8a8_field)field);
            forget_values(flavour, shift, blocks * Q8A8_V2_BLOCK_BYTES);
            compare(kernel, "quantize_row_v2", block_counts[i]);
        }
    }
    for (int size = 0; size < 80; ++size) { /* Q8A8-QNT-9: any size, any alignment of the output */
        uint16_t scale_one = 0xdead;
        uint16_t scale_two = 0xbeef;
        fill_floats(x, 100, flavour);
        poison();
        const size_t shift = (size_t)size % 3;
        scalar->quantize_activation(x + 1, (int8_t *)one.bytes + ROOM + shift, &scale_one, size);
        kernel->quantize_activation(x + 1, (int8_t *)two.bytes + ROOM + shift, &scale_two, size);
        forget_values(flavour, shift, (size_t)size);
        check_that(scale_one == scale_two || flavour >= FLAVOURS_IN_DOMAIN, "%s: scale of %d elements", kernel->name,
                   size);
        compare(kernel, "quantize_activation", 0);
    }
}

static void compare_dequantizers(const struct q8a8_kernel *kernel) {
    static uint8_t x[2 + Q8A8_V2_BLOCK_BYTES * MAX_BLOCKS];
    for (size_t i = 0; i < BLOCK_COUNTS; ++i) {
        const int64_t k = (int64_t)block_counts[i] * QK8_A8;
        fill_blocks(x + 2, MAX_BLOCKS, Q8A8_BLOCK_BYTES, 99);
        poison();
        scalar->dequantize_row(x + 2, floats_of(one.bytes), k);
        kernel->dequantize_row(x + 2, floats_of(two.bytes), k);
        compare(kernel, "dequantize_row", block_counts[i]);
        for (int field = Q8A8_WEIGHT_SCALE; field <= Q8A8_ACTIVATION_SCALE; ++field) {
            fill_blocks(x + 2, MAX_BLOCKS, Q8A8_V2_BLOCK_BYTES, field == Q8A8_WEIGHT_SCALE ? 2 : 0);
            poison();
            scalar->dequantize_row_v2(x + 2, floats_of(one.bytes), k, (enum q8a8_field)field);
            kernel->dequantize_row_v2(x + 2, floats_of(two.bytes), k, (enum q8a8_field)field);
            compare(kernel, "dequantize_row_v2", block_counts[i]);
        }
    }
}

static void compare_dots(const struct q8a8_kernel *kernel) {
    enum { ROW = Q8A8_V2_BLOCK_BYTES * MAX_BLOCKS };
    static uint8_t x[2 * ROW + 200], y[2 * ROW + 200];
    for (size_t i = 0; i < BLOCK_COUNTS; ++i) {
        const int n = block_counts[i] * QK8_A8;
        const size_t row = (size_t)block_counts[i] * Q8A8_BLOCK_BYTES;
        fill_blocks(x, 2 * MAX_BLOCKS, Q8A8_BLOCK_BYTES, 99);
        fill_blocks(y, 2 * MAX_BLOCKS, Q8A8_BLOCK_BYTES, 99);
        poison();
        scalar->vec_dot(n, floats_of(one.bytes), 77, x, 77, y, 77, 1); /* Q8A8-DOT-12: the 77s are ignored */
        kernel->vec_dot(n, floats_of(two.bytes), 0, x, 0, y, 0, 1);
        compare(kernel, "vec_dot", block_counts[i]);

        /* nrc = 2 with strides larger than necessary: rows a whole number of blocks apart, each of blocks
         * with finite scales (Q8A8-DOT-6), and its four values those of nrc = 1 (Q8A8-DOT-11) */
        const size_t bs = 2 + random_below(9);
        const size_t bx = row + random_below(3) * Q8A8_BLOCK_BYTES;
        const size_t by = row + random_below(3) * Q8A8_BLOCK_BYTES;
        poison();
        scalar->vec_dot(n, floats_of(one.bytes), bs, x, bx, y, by, 2);
        kernel->vec_dot(n, floats_of(two.bytes), bs, x, bx, y, by, 2);
        compare(kernel, "vec_dot, nrc = 2,", block_counts[i]);
        float *s = floats_of(one.bytes);
        kernel->vec_dot(n, s, 0, x, 0, y, 0, 1);
        kernel->vec_dot(n, s + 1, 0, x + bx, 0, y, 0, 1);
        kernel->vec_dot(n, s + bs, 0, x, 0, y + by, 0, 1);
        kernel->vec_dot(n, s + bs + 1, 0, x + bx, 0, y + by, 0, 1);
        compare(kernel, "vec_dot, nrc = 2 by nrc = 1,", block_counts[i]);

        fill_blocks(x + 2, MAX_BLOCKS, Q8A8_V2_BLOCK_BYTES, 2);
        fill_blocks(y + 2, MAX_BLOCKS, Q8A8_V2_BLOCK_BYTES, 0);
        poison();
        scalar->vec_dot_real(n, floats_of(one.bytes), x + 2, y + 2);
        kernel->vec_dot_real(n, floats_of(two.bytes), x + 2, y + 2);
        compare(kernel, "vec_dot_real", block_counts[i]);
    }
}

/* Shapes around the sizes of tiles and chunks. */
static const struct {
    int m, n, blocks;
} shapes[] = {{0, 1, 1}, {1, 0, 1}, {1, 1, 0},   {1, 1, 1},  {3, 5, 2},   {8, 1, 7},  {15, 2, 9},
              {16, 3, 8}, {17, 4, 5}, {31, 33, 3}, {33, 9, 33}, {70, 7, 65}, {64, 11, 4}, {5, 300, 2}};
enum { SHAPES = sizeof shapes / sizeof *shapes, MOST_ROWS = 70, MOST_COLUMNS = 300, MOST_OUTPUTS = 1600 };

static void multiply_packed(const struct q8a8_kernel *kernel, int m, int n, int64_t k, const uint8_t *w, const float *x,
                            float *out, int threads) {
    struct q8a8_packed *packed = q8a8_product_pack(kernel->product, m, k, w);
    check_that(packed != NULL && q8a8_product_mul_mat_packed(packed, n, x, out, threads) == 0, "%s: no memory",
               kernel->name);
    q8a8_product_free(packed);
}

static void compare_products(const struct q8a8_kernel *kernel) {
    static uint8_t w[MOST_ROWS * 65 * Q8A8_BLOCK_BYTES];
    static float x[MOST_COLUMNS * 2 * QK8_A8 + 40 * 65 * QK8_A8];
    static float expected[MOST_OUTPUTS + 1], given[MOST_OUTPUTS + 1];
    for (size_t i = 0; i < SHAPES; ++i) {
        const int m = shapes[i].m;
        const int n = shapes[i].n;
        const int64_t k = (int64_t)shapes[i].blocks * QK8_A8;
        fill_blocks(w, (size_t)(m * shapes[i].blocks), Q8A8_BLOCK_BYTES, 99);
        fill_floats(x, (size_t)n * (size_t)k, (enum flavour)random_below(FLAVOURS_IN_DOMAIN));
        memset(expected, POISON, sizeof expected);
        scalar->mul_mat(m, n, k, w, x, expected);
        for (int threads = 0; threads < 4; threads += 1 + (threads > 0)) { /* 0: not packed */
            memset(given, POISON, sizeof given);
            if (threads == 0) {
                kernel->mul_mat(m, n, k, w, x, given);
            } else {
                multiply_packed(kernel, m, n, k, w, x, given, threads);
            }
            check_that(memcmp(expected, given, sizeof given) == 0, "%s: %d x %d outputs of %d blocks, %d threads",
                       kernel->name, n, m, shapes[i].blocks, threads);
        }
    }
}

/* Packed weights that are large enough for huge pages of 2 MB. */
static void compare_large_products(const struct q8a8_kernel *kernel) {
    enum { M = 64, BLOCKS = 1024, K = BLOCKS * QK8_A8 };
    static uint8_t w[M * BLOCKS * Q8A8_BLOCK_BYTES];
    static float x[K];
    float expected[M], given[M];
    fill_blocks(w, M * BLOCKS, Q8A8_BLOCK_BYTES, 99);
    fill_floats(x, K, (enum flavour)random_below(FLAVOURS_IN_DOMAIN));
    scalar->mul_mat(M, 1, K, w, x, expected);
    multiply_packed(kernel, M, 1, K, w, x, given, 2);
    check_that(memcmp(expected, given, sizeof given) == 0, "%s: packed weights of %zu bytes", kernel->name, sizeof w);
}

/* Computed by hand: 32 products of -128 * -128 are 2^19 a block, with scales 1 and -2 (Q8A8-DOT-1, DOT-4). */
static void all_minus_128(const struct q8a8_kernel *kernel) {
    uint8_t x[3 * Q8A8_BLOCK_BYTES], y[3 * Q8A8_BLOCK_BYTES];
    memset(x, 0x80, sizeof x);
    memset(y, 0x80, sizeof y);
    for (size_t b = 0; b < 3; ++b) {
        memcpy(x + b * Q8A8_BLOCK_BYTES, "\x00\x3c", 2); /* 1.0 */
        memcpy(y + b * Q8A8_BLOCK_BYTES, "\x00\xc0", 2); /* -2.0 */
    }
    float s[4] = {0};
    kernel->vec_dot(3 * QK8_A8, s, 2, x, 0, y, 0, 2);
    for (size_t i = 0; i < 4; ++i) {
        check_that(s[i] == -3.0f * 0x1p20f, "%s: all -128: s[%zu] = %a", kernel->name, i, (double)s[i]);
    }
}

/* Computed by hand: weights of -128 by activations that quantize to 127, the largest products (Q8A8-MUL-4). */
static void largest_products(const struct q8a8_kernel *kernel) {
    uint8_t w[9 * 3 * Q8A8_BLOCK_BYTES];
    float x[2 * 3 * QK8_A8], out[2 * 9] = {0};
    memset(w, 0x80, sizeof w);
    for (size_t b = 0; b < 9 * 3; ++b) {
        memcpy(w + b * Q8A8_BLOCK_BYTES, "\x00\x3c", 2); /* 1.0 */
    }
    for (size_t j = 0; j < 2 * 3 * QK8_A8; ++j) {
        x[j] = j < 3 * QK8_A8 ? 127.0f : -127.0f;
    }
    kernel->mul_mat(9, 2, 3 * QK8_A8, w, x, out);
    for (size_t i = 0; i < 18; ++i) {
        const float expected = (i < 9 ? -1.0f : 1.0f) * 3 * 32 * 128 * 127;
        check_that(out[i] == expected, "%s: -128 by 127: out[%zu] = %a", kernel->name, i, (double)out[i]);
    }
}

static void run(const struct q8a8_kernel *kernel) {
    const unsigned long before = check_failures;
    for (int flavour = 0; flavour < FLAVOURS; ++flavour) {
        compare_quantizers(kernel, (enum flavour)flavour);
    }
    for (int round = 0; round < 8; ++round) {
        compare_dequantizers(kernel);
        compare_dots(kernel);
    }
    compare_products(kernel);
    compare_large_products(kernel);
    all_minus_128(kernel);
    largest_products(kernel);
    printf("%s: %s\n", kernel->name, check_failures == before ? "equals scalar" : "differs from scalar");
}

static bool named(char **names, const char *name) {
    for (; *names != NULL; ++names) {
        if (strcmp(*names, name) == 0) {
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv) {
    const bool only = argc > 1 && strcmp(argv[1], "--only") == 0;
    char **names = argv + 1 + only;
    int missing = argc - 1 - only;
    for (const struct kernel_row *row = kernel_rows; row->name != NULL; ++row) {
        char lacks[100];
        if (only && !named(names, row->name)) {
            continue;
        }
        if (row->kernel == NULL || !target_runs_here(row->kernel, lacks, sizeof lacks)) {
            printf("%s: not for this CPU\n", row->name);
            continue;
        }
        run(row->kernel);
        missing -= named(names, row->name);
    }
    check_that(missing == 0, "%d of the kernels that must run here did not", missing);
    return check_report("kernels");
}
