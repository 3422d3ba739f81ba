/* SVE with SDOT, for vectors of any length (Neoverse V1 and V2, Cortex-X2, A64FX ...). SVE2 adds no instruction that a
 * product of int8 needs; sve-i8mm.c has SMMLA. */
#include "sve_values.h"

#include "rows.h"

/* The product by lanes: a tile has a row for each 32-bit lane of a vector, however many these are. SDOT by a lane takes
 * four elements of x from every 128 bits, where LD1RQ puts the same 16. Types of unknown size have no arrays: what is
 * done for each row of x is a macro. */
enum { GROUP = 4, COLUMNS = 4 };

static size_t rows_of_a_vector(void) {
    return svcntw();
}

#define ONE_COLUMN(DO) DO(0)
#define FOUR_COLUMNS(DO) DO(0) DO(1) DO(2) DO(3)

#define START(c)                                                                                                       \
    const struct q8a8_column *column##c = (const void *)(columns + (c) * apart);                                       \
    svfloat32_t sum##c = svld1(words, out + (c) * stride);

#define FIRST_HALF(c)                                                                                                  \
    svint32_t sumi##c = svdup_s32(0);                                                                                  \
    svint8_t x##c = svld1rq(bytes, column##c->q);

#define SECOND_HALF(c) x##c = svld1rq(bytes, column##c->q + 16);

#define DOT_0(c) sumi##c = svdot_lane(sumi##c, w0, x##c, 0);
#define DOT_1(c) sumi##c = svdot_lane(sumi##c, w1, x##c, 1);
#define DOT_2(c) sumi##c = svdot_lane(sumi##c, w2, x##c, 2);
#define DOT_3(c) sumi##c = svdot_lane(sumi##c, w3, x##c, 3);

#define FOUR_LINES(EACH_COLUMN, first)                                                                                 \
    {                                                                                                                  \
        const svint8_t w0 = svld1_vnum(bytes, w, (first));                                                             \
        const svint8_t w1 = svld1_vnum(bytes, w, (first) + 1);                                                         \
        const svint8_t w2 = svld1_vnum(bytes, w, (first) + 2);                                                         \
        const svint8_t w3 = svld1_vnum(bytes, w, (first) + 3);                                                         \
        EACH_COLUMN(DOT_0) EACH_COLUMN(DOT_1) EACH_COLUMN(DOT_2) EACH_COLUMN(DOT_3)                                    \
    }

/* sum = f32(sum + f32(f32(sumi) * f32(dw * dx))): two roundings, so not svmla (Q8A8-DOT-2, Q8A8-DOT-3) */
#define ADD_TERMS(c)                                                                                                   \
    sum##c = svadd_x(words, sum##c,                                                                                    \
                     svmul_x(words, svcvt_f32_x(words, sumi##c), svmul_x(words, dw, column##c->scale)));               \
    ++column##c;

#define STORE(c) svst1(words, out + (c) * stride, sum##c);

#define FEW_COLUMNS(name, EACH_COLUMN)                                                                                 \
    static void name(const uint8_t *ints, const uint16_t *scales, size_t blocks, const uint8_t *columns, size_t apart, \
                     float *out, size_t stride) {                                                                      \
        const svbool_t words = svptrue_b32();                                                                          \
        const svbool_t bytes = svptrue_b8();                                                                           \
        const int8_t *w = (const int8_t *)ints;                                                                        \
        EACH_COLUMN(START)                                                                                             \
        for (size_t b = 0; b < blocks; ++b, w += svcntw() * QK8_A8, scales += svcntw()) {                              \
            EACH_COLUMN(FIRST_HALF)                                                                                    \
            FOUR_LINES(EACH_COLUMN, 0)                                                                                 \
            EACH_COLUMN(SECOND_HALF)                                                                                   \
            FOUR_LINES(EACH_COLUMN, 4)                                                                                 \
            const svfloat16_t halves = svreinterpret_f16(svld1uh_u32(words, scales));                                  \
            const svfloat32_t dw = svcvt_f32_x(words, halves);                                                         \
            EACH_COLUMN(ADD_TERMS)                                                                                     \
        }                                                                                                              \
        EACH_COLUMN(STORE)                                                                                             \
    }

FEW_COLUMNS(one_column, ONE_COLUMN)
FEW_COLUMNS(four_columns, FOUR_COLUMNS)

static void sve_tile(const uint8_t *ints, const uint16_t *scales, size_t blocks, const void *columns, size_t apart,
                     size_t count, float *sums, size_t stride) {
    const uint8_t *first = columns;
    for (; count >= COLUMNS; count -= COLUMNS, first += COLUMNS * apart, sums += COLUMNS * stride) {
        four_columns(ints, scales, blocks, first, apart, sums, stride);
    }
    for (; count > 0; --count, first += apart, sums += stride) {
        one_column(ints, scales, blocks, first, apart, sums, stride);
    }
}

static const struct q8a8_product sve_product = {
    .rows = rows_of_a_vector,
    .group = GROUP,
    .column_bytes = sizeof(struct q8a8_column),
    .quantize = rows_quantize_columns,
    .tile = sve_tile,
};

static void sve_mul_mat(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out) {
    q8a8_product_mul_mat(&sve_product, m, n, k, w, x, out);
}

extern const struct q8a8_kernel q8a8_kernel_sve;
const struct q8a8_kernel q8a8_kernel_sve = {
    .name = "sve",
    .needs = {"asimd", "sve"},
    .vec_dot = rows_vec_dot,
    .mul_mat = sve_mul_mat,
    .product = &sve_product,
    ROWS_KERNEL_FUNCTIONS,
};
