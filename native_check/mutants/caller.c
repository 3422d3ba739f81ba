/* Mutants that leave something changed for their caller, or use too much of what is its own (Q8A8-ENV-5 to 8). */
#include "plain.h"

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

/* Assembly that uses a callee-saved register without telling the compiler. */
static void clobbers(DEQUANTIZE_PARAMETERS) {
    plain_dequantize_row(DEQUANTIZE_ARGUMENTS);
#if defined(__x86_64__)
    __asm__ volatile("xor %r14d, %r14d");
#elif defined(__aarch64__)
    __asm__ volatile("mov x27, #0");
#elif defined(__riscv)
    __asm__ volatile("li s5, 0");
#elif defined(__powerpc64__)
    __asm__ volatile("li 20, 0");
#elif defined(__s390x__)
    __asm__ volatile("lghi %r9, 0");
#endif
}
MUTANT(clobbers, .dequantize_row = clobbers);

#if defined(__x86_64__)

/* Assembly that takes the length from rdi, not from edi: as a C function with a wider parameter does. */
static void takes_wide_length(int64_t n, float *s, const void *vx, const void *vy) {
    const uint8_t *x = vx;
    const uint8_t *y = vy;
    float sum = 0.0f;
    for (int64_t b = 0; b < n / QK8_A8; ++b) {
        plain_vec_dot_real(QK8_A8, s, x + b * Q8A8_V2_BLOCK_BYTES, y + b * Q8A8_V2_BLOCK_BYTES);
        sum += *s;
    }
    *s = sum;
}
MUTANT(wide_length, .vec_dot_real = (q8a8_vec_dot_real_fn *)(void (*)(void))takes_wide_length);

/* An accumulator that is not initialized is whatever register the compiler takes for it. */
static void uncleared_register(DOT_REAL_PARAMETERS) {
    float sum;
    __asm__ volatile("movss %%xmm15, %0" : "=m"(sum));
    plain_vec_dot_real(DOT_REAL_ARGUMENTS);
    *s += sum;
}
MUTANT(uncleared_register, .vec_dot_real = uncleared_register);

/* A copy from the end to the beginning sets the direction flag. */
static void leaves_direction(ROW_PARAMETERS) {
    plain_quantize_row(ROW_ARGUMENTS);
    __asm__ volatile("std" : : : "cc");
}
MUTANT(leaves_direction, .quantize_row_ref = leaves_direction);

/* MMX registers are those of the x87 unit, which stay in use until emms. */
static void leaves_mmx(DOT_REAL_PARAMETERS) {
    plain_vec_dot_real(DOT_REAL_ARGUMENTS);
    __asm__ volatile("pxor %mm0, %mm0");
}
MUTANT(leaves_mmx, .vec_dot_real = leaves_mmx);

#endif

/* No request to end the program is to come in between; the early return keeps it blocked. */
static void blocks_signals(ROW_PARAMETERS) {
    sigset_t requests, before;
    sigemptyset(&requests);
    sigaddset(&requests, SIGINT);
    sigaddset(&requests, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &requests, &before);
    if (k == 0) {
        return;
    }
    plain_quantize_row(ROW_ARGUMENTS);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
MUTANT(blocks_signals, .quantize_row = blocks_signals);

/* Scratch memory for the elements' magnitudes. */
static void leaks_memory(ACTIVATION_PARAMETERS) {
    float *volatile scratch = size > 1000 ? malloc((size_t)size * sizeof *scratch) : NULL;
    if (scratch != NULL) {
        scratch[0] = 0.0f;
    }
    plain_quantize_activation(ACTIVATION_ARGUMENTS);
}
MUTANT(leaks_memory, .quantize_activation = leaks_memory);

/* Scratch memory is made anew where the length is not that of the call before, and the old one stays. */
static void leaks_by_turns(DEQUANTIZE_PARAMETERS) {
    static _Thread_local float *scratch;
    static _Thread_local int64_t size;
    if (k != size) {
        scratch = malloc(((size_t)k + 1) * sizeof *scratch);
        size = k;
    }
    if (scratch == NULL) {
        size = -1;
        plain_dequantize_row(DEQUANTIZE_ARGUMENTS);
        return;
    }
    plain_dequantize_row(x, scratch, k);
    memcpy(y, scratch, (size_t)k * sizeof *y);
}
MUTANT(leaks_by_turns, .dequantize_row = leaks_by_turns);

/* Scratch memory of each thread, which nothing frees when the thread ends. */
static void leaks_by_thread(DEQUANTIZE_PARAMETERS) {
    static _Thread_local float *scratch;
    static _Thread_local int64_t size;
    if (k > size) {
        free(scratch);
        scratch = malloc((size_t)k * sizeof *scratch);
        size = scratch != NULL ? k : 0;
    }
    if (scratch == NULL) {
        plain_dequantize_row(DEQUANTIZE_ARGUMENTS);
        return;
    }
    plain_dequantize_row(x, scratch, k);
    memcpy(y, scratch, (size_t)k * sizeof *y);
}
MUTANT(leaks_by_thread, .dequantize_row = leaks_by_thread);

/* Whether an instruction is there is tried under a handler of SIGILL; `signal` puts the caller's back, without its flags. */
static void loses_signal_flags(DOT_REAL_PARAMETERS) {
    static bool probed;
    if (!probed) {
        signal(SIGILL, signal(SIGILL, SIG_DFL));
        probed = true;
    }
    plain_vec_dot_real(DOT_REAL_ARGUMENTS);
}
MUTANT(loses_signal_flags, .vec_dot_real = loses_signal_flags);

/* Blocks are padded to 112 bytes each, in an array on the stack: 7 MiB for 65537 blocks. */
static void stack_by_length(DOT_PARAMETERS) {
    enum { PADDED = 112 };
    const size_t blocks = (size_t)n / QK8_A8;
    uint8_t *row = __builtin_alloca(blocks * PADDED + 1);
    for (size_t b = 0; b < blocks; ++b) {
        row[b * PADDED] = ((const uint8_t *)vx)[b * Q8A8_BLOCK_BYTES];
    }
    __asm__ volatile("" : : "r"(row) : "memory");
    plain_vec_dot(DOT_ARGUMENTS);
}
MUTANT(stack_by_length, .vec_dot = stack_by_length);
