/* Kernels with one fault each, for the tests of the harness, which loads this library with --symbol and calls them
 * in place of the functions of the interface. */
#define _POSIX_C_SOURCE 200809L
#include <fenv.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* The signature of ggml_vec_dot_q8_a8_q8_a8_real: one float out, two rows of 36-byte blocks in. */
#define DOT(name)                                                                                                      \
    EXPORT void name(int n, float *s, const void *vx, const void *vy);                                                 \
    EXPORT void name(int n, float *s, const void *vx, const void *vy)

/* Keeps the compiler from optimizing on the kernels' invalid accesses. */
static volatile size_t zero;

static uint8_t *writable(const void *input) {
    uint8_t *bytes;
    memcpy(&bytes, &input, sizeof bytes);
    return bytes;
}

static size_t row_bytes(int n) {
    return (size_t)n / 32 * 36;
}

DOT(dot_fine) {
    (void)n, (void)vx, (void)vy;
    s[0] = 1.0f;
}

/* Right where all scales are 1. All signals are blocked during the call, as they may be. */
DOT(dot_blocks_signals) {
    const int8_t *x = vx, *y = vy;
    sigset_t all, before;
    float sum = 0.0f;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (size_t b = 0; b < row_bytes(n); b += 36) {
        for (size_t j = 4; j < 36; ++j) {
            sum += (float)(x[b + j] * y[b + j]);
        }
    }
    s[0] = sum;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

DOT(dot_reads_after) {
    const volatile uint8_t *x = vx;
    (void)vy;
    s[0] = x[row_bytes(n) + zero];
}

DOT(dot_reads_before) {
    const volatile uint8_t *y = vy;
    (void)n, (void)vx;
    s[0] = *(y - 1 - zero);
}

DOT(dot_writes_after) {
    (void)n, (void)vx, (void)vy;
    s[0] = 1.0f;
    s[1 + zero] = 2.0f;
}

DOT(dot_writes_before) {
    (void)n, (void)vx, (void)vy;
    s[0] = 1.0f;
    *(s - 1 - zero) = 2.0f;
}

DOT(dot_writes_after_input) {
    (void)vx;
    s[0] = 1.0f;
    writable(vy)[row_bytes(n) + zero] = 0;
}

DOT(dot_writes_input) {
    (void)n, (void)vy;
    s[0] = 1.0f;
    writable(vx)[3] ^= 0xff;
}

DOT(dot_rounds_up) {
    (void)n, (void)vx, (void)vy;
    s[0] = 1.0f;
    fesetround(FE_UPWARD);
}

static void set_flush(void) {
#if defined(__x86_64__)
    uint32_t mxcsr;
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    mxcsr ^= 0x8000;
    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
#elif defined(__aarch64__)
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    fpcr ^= UINT64_C(1) << 24;
    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr));
#endif
}

DOT(dot_toggles_flush) {
    (void)n, (void)vx, (void)vy;
    s[0] = 1.0f;
    set_flush();
}

DOT(dot_unmasks_traps) {
    (void)n, (void)vx, (void)vy;
    s[0] = 1.0f;
#if defined(__x86_64__)
    uint32_t mxcsr;
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    mxcsr &= ~UINT32_C(0x1000); /* precision */
    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
#endif
}

DOT(dot_raises_flags) { /* sticky flags may be raised */
    (void)n, (void)vx, (void)vy;
    volatile float third = 1.0f;
    third = third / 3.0f;
    s[0] = third > 0 ? 1.0f : 0.0f;
}

/* The result is subnormal unless results are flushed. */
DOT(dot_shows_flush) {
    (void)n, (void)vx, (void)vy;
    volatile float small = 0x1p-126f;
    small = small / 4.0f;
    s[0] = small;
}

DOT(dot_varies) {
    static float calls;
    (void)n, (void)vx, (void)vy;
    s[0] = calls;
    calls += 1.0f;
}

DOT(dot_varies_by_thread) {
    static _Thread_local float mine;
    static _Atomic int threads;
    (void)n, (void)vx, (void)vy;
    if (mine == 0.0f) {
        mine = (float)++threads;
    }
    s[0] = mine;
}

DOT(dot_reads_old_output) {
    (void)n, (void)vx, (void)vy;
    s[0] += 1.0f;
}

DOT(dot_prints) {
    (void)n, (void)vx, (void)vy;
    s[0] = 1.0f;
    puts("hello from a kernel");
    fflush(stdout);
}

DOT(dot_traps) {
    (void)n, (void)s, (void)vx, (void)vy;
    raise(SIGILL);
}

DOT(dot_aborts) {
    (void)n, (void)s, (void)vx, (void)vy;
    abort();
}

/* Each level reads its frame after the next one returned, so that it is not compiled to a loop. */
static int endless(volatile int *depth) {
    volatile int frame[256];
    frame[0] = *depth + 1;
    return *depth < 0 ? 0 : endless(frame) + frame[0];
}

DOT(dot_recurses) {
    volatile int depth = 0;
    (void)n, (void)vx, (void)vy;
    s[0] = (float)endless(&depth);
}

EXPORT void init_crashes(void);
EXPORT void init_crashes(void) {
    volatile uint8_t *nowhere = (volatile uint8_t *)zero;
    *nowhere = 1;
}

EXPORT void init_prints(void);
EXPORT void init_prints(void) {
    puts("hello from init");
    fflush(stdout);
}
