/* Mutants whose results depend on what was called before, or on who else is calling (Q8A8-ENV-2, Q8A8-ENV-3). */
#include "half.h"
#include "plain.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

/* The largest magnitude is kept in a static variable, and a call begins with what the one before left. */
static void keeps_amax(ACTIVATION_PARAMETERS) {
    static float last;
    float *x = malloc(((size_t)size + 1) * sizeof *x);
    int8_t *q = malloc((size_t)size + 1);
    if (x != NULL && q != NULL) {
        memcpy(x, input, (size_t)size * sizeof *x);
        x[size] = last;
        plain_quantize_activation(x, q, scale, size + 1);
        memcpy(output, q, (size_t)size);
        last = size != 0 ? input[size - 1] : 0.0f;
    }
    free(x);
    free(q);
}
MUTANT(keeps_amax, .quantize_activation = keeps_amax);

/* Results are remembered by the addresses of the rows, which stay the same when the rows change. */
static void remembers_rows(DOT_REAL_PARAMETERS) {
    static const void *last_x, *last_y;
    static int last_n;
    static float last;
    if (vx != last_x || vy != last_y || n != last_n) {
        plain_vec_dot_real(n, &last, vx, vy);
        last_x = vx;
        last_y = vy;
        last_n = n;
    }
    s[0] = last;
}
MUTANT(remembers_rows, .vec_dot_real = remembers_rows);

/* The table of halves is filled by the first quantizer; before that every scale is read as zero. */
static float table[1 << 16];

static void fill_table(void) {
    for (uint32_t bits = 0; bits < 1 << 16; ++bits) {
        table[bits] = q8a8_half_to_float((uint16_t)bits);
    }
}

static void fills_table(ROW_PARAMETERS) {
    static volatile bool filled;
    if (!filled) {
        fill_table();
        filled = true;
    }
    plain_quantize_row(ROW_ARGUMENTS);
}

/* y_j = d * q_j, with the scale from the table. */
static void dequantize_by_table(DEQUANTIZE_PARAMETERS) {
    const uint8_t *block = x;
    for (int64_t b = 0; b < k / QK8_A8; ++b, block += Q8A8_BLOCK_BYTES) {
        const float d = table[block[0] | block[1] << 8];
        for (size_t j = 0; j < QK8_A8; ++j) {
            *y++ = d * (float)(int8_t)block[2 + j];
        }
    }
}
MUTANT(needs_another, .quantize_row = fills_table, .quantize_row_ref = fills_table,
       .dequantize_row = dequantize_by_table);

/* The table is filled by the first call, by a product that is 0 for subnormal halves where the caller flushes those. */
static void table_of_modes(DEQUANTIZE_PARAMETERS) {
    static float widened[1 << 16];
    static _Atomic bool filled;
    const uint8_t *block = x;
    if (!filled) {
        for (uint32_t bits = 0; bits < 1 << 16; ++bits) {
            const uint32_t shifted = (bits & 0x8000) << 16 | (bits & 0x7fff) << 13;
            float small;
            memcpy(&small, &shifted, sizeof shifted);
            widened[bits] = small * 0x1p112f;
        }
        filled = true;
    }
    for (int64_t b = 0; b < k / QK8_A8; ++b, block += Q8A8_BLOCK_BYTES) {
        for (size_t j = 0; j < QK8_A8; ++j) {
            *y++ = widened[block[0] | block[1] << 8] * (float)(int8_t)block[2 + j];
        }
    }
}
MUTANT(table_of_modes, .dequantize_row = table_of_modes);

/* The table comes from a file, which takes a few milliseconds (here: a sleep). The flag is set before the table is
 * filled: the next thread finds it empty. */
static void lazy_table(DEQUANTIZE_PARAMETERS) {
    static volatile bool filled;
    if (!filled) {
        struct timespec rest = {0, 5 * 1000 * 1000};
        filled = true;
        while (nanosleep(&rest, &rest) != 0 && errno == EINTR) {
        }
        fill_table();
    }
    dequantize_by_table(DEQUANTIZE_ARGUMENTS);
}
MUTANT(lazy_table, .dequantize_row = lazy_table);

/* The products of the blocks' results are added in another order. */
static float add_by(DOT_REAL_PARAMETERS, unsigned lanes) {
    const uint8_t *x = vx;
    const uint8_t *y = vy;
    float sums[8] = {0.0f};
    (void)s;
    for (int b = 0; b < n / QK8_A8; ++b) {
        float product;
        plain_vec_dot_real(QK8_A8, &product, x + b * Q8A8_V2_BLOCK_BYTES, y + b * Q8A8_V2_BLOCK_BYTES);
        sums[(unsigned)b % lanes] += product;
    }
    for (unsigned lane = 1; lane < lanes; ++lane) {
        sums[0] += sums[lane];
    }
    return sums[0];
}

/* One to eight accumulators, whichever were the fastest in a measurement: here, what the clock shows. */
static void picked_by_clock(DOT_REAL_PARAMETERS) {
    static _Atomic unsigned lanes;
    unsigned fastest = 0;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!atomic_compare_exchange_strong(&lanes, &fastest, 1 + (unsigned)(now.tv_nsec / 64) % 8)) {
        s[0] = add_by(DOT_REAL_ARGUMENTS, fastest);
        return;
    }
    s[0] = add_by(DOT_REAL_ARGUMENTS, lanes);
}
MUTANT(picked_by_clock, .vec_dot_real = picked_by_clock);

/* After a warm-up of fifty thousand calls a faster variant takes over, which begins with the last block. */
static void changes_after_many(DOT_PARAMETERS) {
    enum { WARM_UP = 50000 };
    static _Atomic unsigned calls;
    const uint8_t *x = vx;
    const uint8_t *y = vy;
    if (atomic_fetch_add(&calls, 1) < WARM_UP || nrc != 1) {
        plain_vec_dot(DOT_ARGUMENTS);
        return;
    }
    float sum = 0.0f;
    for (int b = n / QK8_A8 - 1; b >= 0; --b) {
        float product;
        plain_vec_dot(QK8_A8, &product, 0, x + b * Q8A8_BLOCK_BYTES, 0, y + b * Q8A8_BLOCK_BYTES, 0, 1);
        sum += product;
    }
    s[0] = sum;
}
MUTANT(changes_after_many, .vec_dot = changes_after_many);

/* The scales of the first blocks are kept, each with the number of the call that has read it: sixteen bits. */
static void stale_generation(DEQUANTIZE_PARAMETERS) {
    enum { HELD = 64 }; /* later ones are read in every call */
    static _Thread_local uint16_t call, read_in[HELD];
    static _Thread_local float scales[HELD];
    const uint8_t *block = x;
    ++call;
    for (int64_t b = 0; b < k / QK8_A8; ++b, block += Q8A8_BLOCK_BYTES) {
        const int64_t place = b < HELD ? b : HELD - 1;
        if (b >= HELD || read_in[place] != call) {
            scales[place] = q8a8_half_to_float((uint16_t)(block[0] | block[1] << 8));
            read_in[place] = call;
        }
        for (size_t j = 0; j < QK8_A8; ++j) {
            *y++ = scales[place] * (float)(int8_t)block[2 + j];
        }
    }
}
MUTANT(stale_generation, .dequantize_row = stale_generation);

/* The odd tail is padded in a static vector, where the last call's elements still are. */
static void dirty_tail(ACTIVATION_PARAMETERS) {
    static float last[8];
    const int tail = size % 8;
    memcpy(last, input + (size - tail), (size_t)tail * sizeof *last);
    float *x = malloc(((size_t)size + 8) * sizeof *x);
    int8_t *q = malloc((size_t)size + 8);
    if (x != NULL && q != NULL) {
        memcpy(x, input, (size_t)(size - tail) * sizeof *x);
        memcpy(x + (size - tail), last, sizeof last);
        plain_quantize_activation(x, q, scale, size - tail + (tail != 0 ? 8 : 0));
        memcpy(output, q, (size_t)size);
    }
    free(x);
    free(q);
}
MUTANT(dirty_tail, .quantize_activation = dirty_tail);

/* A row is quantized in a static buffer, in pieces, and copied out from there. */
static void shared_row(ROW_PARAMETERS) {
    enum { PIECE = 64 };
    static uint8_t row[PIECE * Q8A8_BLOCK_BYTES];
    uint8_t *out = y;
    for (int64_t b = 0; b < k / QK8_A8; b += PIECE) {
        const int64_t rest = k / QK8_A8 - b;
        const int64_t blocks = rest < PIECE ? rest : PIECE;
        plain_quantize_row(x + b * QK8_A8, row, blocks * QK8_A8);
        memcpy(out + b * Q8A8_BLOCK_BYTES, row, (size_t)blocks * Q8A8_BLOCK_BYTES);
    }
}
MUTANT(shared_row, .quantize_row = shared_row);

/* The products of the blocks are kept in a static array until they are added up. */
static void shared_products(DOT_PARAMETERS) {
    enum { PIECE = 64 };
    static float products[PIECE];
    const uint8_t *x = vx;
    const uint8_t *y = vy;
    if (nrc != 1) {
        plain_vec_dot(DOT_ARGUMENTS);
        return;
    }
    float sum = 0.0f;
    for (int b = 0; b < n / QK8_A8; b += PIECE) {
        const int rest = n / QK8_A8 - b;
        const int blocks = rest < PIECE ? rest : PIECE;
        for (int i = 0; i < blocks; ++i) {
            plain_vec_dot(QK8_A8, &products[i], 0, x + (b + i) * Q8A8_BLOCK_BYTES, 0, y + (b + i) * Q8A8_BLOCK_BYTES,
                          0, 1);
        }
        for (int i = 0; i < blocks; ++i) {
            sum = sum + products[i];
        }
    }
    s[0] = sum;
}
MUTANT(shared_products, .vec_dot = shared_products);

/* Every thread has a number, and every sixteenth the same place for its sum. */
static void shared_slots(DOT_REAL_PARAMETERS) {
    enum { SLOTS = 16 };
    static _Atomic unsigned threads;
    static _Thread_local unsigned mine;
    static volatile float sums[SLOTS];
    const uint8_t *x = vx;
    const uint8_t *y = vy;
    if (mine == 0) {
        mine = ++threads;
    }
    volatile float *sum = &sums[mine % SLOTS];
    *sum = 0.0f;
    for (int b = 0; b < n / QK8_A8; ++b) {
        float product;
        plain_vec_dot_real(QK8_A8, &product, x + b * Q8A8_V2_BLOCK_BYTES, y + b * Q8A8_V2_BLOCK_BYTES);
        *sum = *sum + product;
    }
    s[0] = *sum;
}
MUTANT(shared_slots, .vec_dot_real = shared_slots);

/* The blocks' sums, each by a call; from the last block on if `backwards`. */
static float sum_of_blocks(int n, const uint8_t *x, const uint8_t *y, bool backwards) {
    float sum = 0.0f;
    for (int b = 0; b < n / QK8_A8; ++b) {
        const int at = (backwards ? n / QK8_A8 - 1 - b : b) * Q8A8_BLOCK_BYTES;
        float product;
        plain_vec_dot(QK8_A8, &product, 0, x + at, 0, y + at, 0, 1);
        sum = sum + product;
    }
    return sum;
}

/* The fast path is for one thread at a time; who comes meanwhile adds in another order. */
static void busy_order(DOT_PARAMETERS) {
    static atomic_flag busy = ATOMIC_FLAG_INIT;
    if (nrc != 1) {
        plain_vec_dot(DOT_ARGUMENTS);
        return;
    }
    const bool slow = atomic_flag_test_and_set(&busy);
    s[0] = sum_of_blocks(n, vx, vy, slow);
    if (!slow) {
        atomic_flag_clear(&busy);
    }
}
MUTANT(busy_order, .vec_dot = busy_order);

/* The order of the blocks depends on how many threads the environment asks for. */
static void order_by_variable(DOT_PARAMETERS) {
    const char *threads = getenv("OMP_NUM_THREADS");
    if (nrc != 1) {
        plain_vec_dot(DOT_ARGUMENTS);
        return;
    }
    s[0] = sum_of_blocks(n, vx, vy, threads != NULL && atoi(threads) >= 8);
}
MUTANT(order_by_variable, .vec_dot = order_by_variable);

/* One static accumulator, for one block at a time: the shortest of races. */
static void shared_scale(DEQUANTIZE_PARAMETERS) {
    static volatile float d;
    const uint8_t *block = x;
    for (int64_t b = 0; b < k / QK8_A8; ++b, block += Q8A8_BLOCK_BYTES) {
        d = q8a8_half_to_float((uint16_t)(block[0] | block[1] << 8));
        for (size_t j = 0; j < QK8_A8; ++j) {
            *y++ = d * (float)(int8_t)block[2 + j];
        }
    }
}
MUTANT(shared_scale, .dequantize_row = shared_scale);
