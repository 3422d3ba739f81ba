/* Mutants of loops over several blocks at a time. */
#include "plain.h"

/* Four blocks at a time, and of a tail of three only two. */
static void short_tail(DOT_PARAMETERS) {
    const int tail = n / QK8_A8 % 4;
    plain_vec_dot(tail == 3 ? n - QK8_A8 : n, s, bs, vx, bx, vy, by, nrc);
}
MUTANT(short_tail, .vec_dot = short_tail);

/* Two blocks at a time, with two accumulators, and the odd last block goes nowhere. */
static void odd_dropped(DOT_REAL_PARAMETERS) {
    plain_vec_dot_real(n / QK8_A8 / 2 * 2 * QK8_A8, s, vx, vy);
}
MUTANT(odd_dropped, .vec_dot_real = odd_dropped);
