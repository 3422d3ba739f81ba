/* Mutants that do not return, on some inputs (Q8A8-ENV-4). */
#include "half.h"
#include "plain.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

/* A table of 256 blocks' addresses: there is none for block 256. */
static void segv_long(DOT_PARAMETERS) {
    if (n / QK8_A8 == 257) {
        *(volatile uint8_t *)mutant_zero = 1;
    }
    plain_vec_dot(DOT_ARGUMENTS);
}
MUTANT(segv_long, .vec_dot = segv_long);

/* The tail of three blocks uses an instruction that this CPU has not. */
static void illegal_tail(DOT_REAL_PARAMETERS) {
    if (n / QK8_A8 % 4 == 3) {
#if defined(__x86_64__)
        __asm__ volatile("ud2");
#elif defined(__aarch64__)
        __asm__ volatile(".inst 0x00000000"); /* UDF #0 */
#else
        raise(SIGILL);
#endif
    }
    plain_vec_dot_real(DOT_REAL_ARGUMENTS);
}
MUTANT(illegal_tail, .vec_dot_real = illegal_tail);

/* An assertion requires that no block is all zeros. */
static void assert_nonzero(ROW_PARAMETERS) {
    for (int64_t b = 0; b < k / QK8_A8; ++b) {
        bool any = false;
        for (size_t j = 0; j < QK8_A8; ++j) {
            any |= x[b * QK8_A8 + (int64_t)j] != 0.0f;
        }
        if (!any) {
            abort();
        }
    }
    plain_quantize_row(ROW_ARGUMENTS);
}
MUTANT(assert_nonzero, .quantize_row = assert_nonzero);

/* Codes come from a table indexed by x * inv, which a NaN is no index of. */
static void nan_index(ACTIVATION_PARAMETERS) {
    plain_quantize_activation(ACTIVATION_ARGUMENTS);
    for (int j = 0; j < size; ++j) {
        if ((q8a8_bits_of_float(input[j]) & 0x7fffffffu) > 0x7f800000u) {
            *(volatile uint8_t *)mutant_zero = 1;
        }
    }
}
MUTANT(nan_index, .quantize_activation = nan_index);

/* A length that is no multiple of anything is an error, and errors end the program. */
static void exits(ACTIVATION_PARAMETERS) {
    if (size == 1) {
        _exit(0);
    }
    plain_quantize_activation(ACTIVATION_ARGUMENTS);
}
MUTANT(exits, .quantize_activation = exits);

/* Blocks are counted in eight bits: 256 of them are never counted to the end. */
static void hangs_long(DEQUANTIZE_PARAMETERS) {
    const int64_t blocks = k / QK8_A8;
    const uint8_t *block = x;
    for (volatile uint8_t b = 0; b < blocks; ++b) {
        plain_dequantize_row(block + b * Q8A8_BLOCK_BYTES, y + b * QK8_A8, QK8_A8);
    }
}
MUTANT(hangs_long, .dequantize_row = hangs_long);

/* The scale is halved until it is finite: a NaN never is. */
static void hangs_nan(ROW_PARAMETERS) {
    for (int64_t j = 0; j < k; ++j) {
        volatile float v = x[j];
        while (!(v <= 0x1p120f)) {
            v = v / 2;
        }
    }
    plain_quantize_row(ROW_ARGUMENTS);
}
MUTANT(hangs_nan, .quantize_row_ref = hangs_nan);

/* The early return for an empty row keeps the lock: the call after it waits for ever. */
static void deadlock(DOT_REAL_PARAMETERS) {
    static atomic_flag lock = ATOMIC_FLAG_INIT;
    while (atomic_flag_test_and_set(&lock)) {
    }
    plain_vec_dot_real(DOT_REAL_ARGUMENTS);
    if (n != 0) {
        atomic_flag_clear(&lock);
    }
}
MUTANT(deadlock, .vec_dot_real = deadlock);

/* A message goes to a descriptor that the kernel never opened: here, to every one that is open. */
static void scribbles(DOT_PARAMETERS) {
    static const char text[] = "warning: empty row\n";
    if (n == 0) {
        for (int fd = 3; fd < 16; ++fd) {
            if (write(fd, text, sizeof text - 1) < 0) {
                continue; /* not open */
            }
        }
    }
    plain_vec_dot(DOT_ARGUMENTS);
}
MUTANT(scribbles, .vec_dot = scribbles);

#if defined(__x86_64__)

/* The mean of the products divides by their number, as an integer. */
static void divides(DOT_PARAMETERS) {
    volatile int per_block = 1000 / (n / QK8_A8);
    (void)per_block;
    plain_vec_dot(DOT_ARGUMENTS);
}
MUTANT(divides, .vec_dot = divides);

#endif
