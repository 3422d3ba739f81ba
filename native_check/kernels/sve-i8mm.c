/* SVE with SMMLA, for vectors of any length, on processors with both (svei8mm: Neoverse V1, N2, V2, Cortex-X2 ...).
 *
 * In every 128 bits SMMLA multiplies two rows of x by two rows of w, eight elements of each: half as many instructions as
 * SDOT for a pair of rows of x, and as many for a single one, which takes both places. */
#include "sve_values.h"

#include "rows.h"

/* A tile has two rows for each 32-bit lane of a vector, in four vectors a line:
 *
 *     a line, 8 elements of each row:   | rows 0 .. L/2 - 1 | rows L/2 .. L - 1 | rows L .. | rows 3/2 L .. 2 L - 1 |
 *     SMMLA with {x0, x1}:              | x0.w0 x0.w1 x1.w0 x1.w1 | x0.w2 x0.w3 x1.w2 x1.w3 | ...
 *     pairs of lanes of two vectors:    | x0.w0 x0.w1 x0.w2 ... x0.w(L-1) |      | x1.w0 x1.w1 x1.w2 ... |
 *
 * Types of unknown size have no arrays: what is done for each pair of rows of x is a macro. */
enum { GROUP = 8, COLUMNS = 4 };

static size_t rows_of_two_vectors(void) {
    return 2 * svcntw();
}

#define ONE_PAIR(DO) DO(0)
#define TWO_PAIRS(DO) DO(0) DO(1)

/* Row `second` of a pair is the first one again where there is no other. */
#define START(p)                                                                                                       \
    const struct q8a8_column *x##p = (const void *)(columns + 2 * (p) * apart);                                        \
    const struct q8a8_column *y##p = (const void *)(columns + (2 * (p) + second) * apart);                             \
    float *to_x##p = out + 2 * (p) * stride;                                                                           \
    float *to_y##p = out + (2 * (p) + second) * stride;                                                                \
    svfloat32_t low_x##p = svld1(words, to_x##p), high_x##p = svld1_vnum(words, to_x##p, 1);                           \
    svfloat32_t low_y##p = svld1(words, to_y##p), high_y##p = svld1_vnum(words, to_y##p, 1);

#define CLEAR(p) svint32_t a##p = svdup_s32(0), b##p = a##p, c##p = a##p, d##p = a##p;

/* Sixteen elements of the two rows, as two lines have them. */
#define LOAD(p)                                                                                                        \
    const svint64_t of_x##p = svreinterpret_s64(svld1rq(bytes, x##p->q + at));                                         \
    const svint64_t of_y##p = svreinterpret_s64(svld1rq(bytes, y##p->q + at));                                         \
    const svint8_t first##p = svreinterpret_s8(svtrn1(of_x##p, of_y##p));                                              \
    const svint8_t next##p = svreinterpret_s8(svtrn2(of_x##p, of_y##p));

#define FIRST_A(p) a##p = svmmla(a##p, first##p, line);
#define FIRST_B(p) b##p = svmmla(b##p, first##p, line);
#define FIRST_C(p) c##p = svmmla(c##p, first##p, line);
#define FIRST_D(p) d##p = svmmla(d##p, first##p, line);
#define NEXT_A(p) a##p = svmmla(a##p, next##p, line);
#define NEXT_B(p) b##p = svmmla(b##p, next##p, line);
#define NEXT_C(p) c##p = svmmla(c##p, next##p, line);
#define NEXT_D(p) d##p = svmmla(d##p, next##p, line);

#define VECTOR(EACH_PAIR, i, MULTIPLY)                                                                                 \
    {                                                                                                                  \
        const svint8_t line = svld1_vnum(bytes, w, (i));                                                               \
        EACH_PAIR(MULTIPLY)                                                                                            \
    }

#define SUMI(unzip, of, and)                                                                                           \
    svcvt_f32_x(words, svreinterpret_s32(unzip(svreinterpret_s64(of), svreinterpret_s64(and))))

/* sum = f32(sum + f32(f32(sumi) * f32(dw * dx))): two roundings, so not svmla (Q8A8-DOT-2, Q8A8-DOT-3) */
#define ADD(sum, sumi, dw, scale) sum = svadd_x(words, sum, svmul_x(words, sumi, svmul_x(words, dw, scale)));

#define ADD_TERMS(p)                                                                                                   \
    ADD(low_x##p, SUMI(svuzp1, a##p, b##p), low, x##p->scale)                                                          \
    ADD(low_y##p, SUMI(svuzp2, a##p, b##p), low, y##p->scale)                                                          \
    ADD(high_x##p, SUMI(svuzp1, c##p, d##p), high, x##p->scale)                                                        \
    ADD(high_y##p, SUMI(svuzp2, c##p, d##p), high, y##p->scale)                                                        \
    ++x##p, ++y##p;

#define STORE(p)                                                                                                       \
    svst1(words, to_x##p, low_x##p), svst1_vnum(words, to_x##p, 1, high_x##p);                                         \
    svst1(words, to_y##p, low_y##p), svst1_vnum(words, to_y##p, 1, high_y##p);

#define FEW_PAIRS(name, EACH_PAIR)                                                                                     \
    static void name(const uint8_t *ints, const uint16_t *scales, size_t blocks, const uint8_t *columns, size_t apart, \
                     size_t second, float *out, size_t stride) {                                                       \
        const svbool_t words = svptrue_b32();                                                                          \
        const svbool_t bytes = svptrue_b8();                                                                           \
        const int8_t *w = (const int8_t *)ints;                                                                        \
        EACH_PAIR(START)                                                                                               \
        for (size_t i = 0; i < blocks; ++i, scales += 2 * svcntw()) {                                                  \
            EACH_PAIR(CLEAR)                                                                                           \
            for (size_t at = 0; at < QK8_A8; at += 16, w += 8 * svcntb()) {                                            \
                EACH_PAIR(LOAD)                                                                                        \
                VECTOR(EACH_PAIR, 0, FIRST_A)                                                                          \
                VECTOR(EACH_PAIR, 1, FIRST_B)                                                                          \
                VECTOR(EACH_PAIR, 2, FIRST_C)                                                                          \
                VECTOR(EACH_PAIR, 3, FIRST_D)                                                                          \
                VECTOR(EACH_PAIR, 4, NEXT_A)                                                                           \
                VECTOR(EACH_PAIR, 5, NEXT_B)                                                                           \
                VECTOR(EACH_PAIR, 6, NEXT_C)                                                                           \
                VECTOR(EACH_PAIR, 7, NEXT_D)                                                                           \
            }                                                                                                          \
            const svuint32_t halves = svld1uh_u32(words, scales);                                                      \
            const svuint32_t others = svld1uh_u32(words, scales + svcntw());                                           \
            const svfloat32_t low = svcvt_f32_x(words, svreinterpret_f16(halves));                                     \
            const svfloat32_t high = svcvt_f32_x(words, svreinterpret_f16(others));                                    \
            EACH_PAIR(ADD_TERMS)                                                                                       \
        }                                                                                                              \
        EACH_PAIR(STORE)                                                                                               \
    }

FEW_PAIRS(one_pair, ONE_PAIR)
FEW_PAIRS(two_pairs, TWO_PAIRS)

static void sve_i8mm_tile(const uint8_t *ints, const uint16_t *scales, size_t blocks, const void *columns, size_t apart,
                          size_t count, float *sums, size_t stride) {
    const uint8_t *first = columns;
    for (; count >= COLUMNS; count -= COLUMNS, first += COLUMNS * apart, sums += COLUMNS * stride) {
        two_pairs(ints, scales, blocks, first, apart, 1, sums, stride);
    }
    for (; count >= 2; count -= 2, first += 2 * apart, sums += 2 * stride) {
        one_pair(ints, scales, blocks, first, apart, 1, sums, stride);
    }
    if (count != 0) {
        one_pair(ints, scales, blocks, first, apart, 0, sums, stride);
    }
}

static const struct q8a8_product sve_i8mm_product = {
    .rows = rows_of_two_vectors,
    .group = GROUP,
    .column_bytes = sizeof(struct q8a8_column),
    .quantize = rows_quantize_columns,
    .tile = sve_i8mm_tile,
};

static void sve_i8mm_mul_mat(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out) {
    q8a8_product_mul_mat(&sve_i8mm_product, m, n, k, w, x, out);
}

extern const struct q8a8_kernel q8a8_kernel_sve_i8mm;
const struct q8a8_kernel q8a8_kernel_sve_i8mm = {
    .name = "sve-i8mm",
    .needs = {"asimd", "sve", "svei8mm"},
    .vec_dot = rows_vec_dot,
    .mul_mat = sve_i8mm_mul_mat,
    .product = &sve_i8mm_product,
    ROWS_KERNEL_FUNCTIONS,
};
