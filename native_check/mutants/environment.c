/* Mutants that leave the floating-point environment changed (Q8A8-ENV-1). */
#include "fpenv.h"
#include "plain.h"

#include <fenv.h>

#if defined(__x86_64__)
enum { FLUSH = 0x8040 }; /* MXCSR: FTZ, DAZ */
#elif defined(__aarch64__)
enum { FLUSH = 1 << 24 }; /* FPCR: FZ */
#elif defined(__powerpc64__)
enum { FLUSH = 1 << 2 }; /* FPSCR: NI */
#else
enum { FLUSH = 0 }; /* there is no such mode, and no mistake to make */
#endif

static void change(uint64_t set, uint64_t clear) {
    struct fpenv env = fpenv_read();
    env.control = (env.control | set) & ~clear;
    fpenv_write(env);
}

/* Conversions by truncation need another rounding mode, which nobody sets back. */
static void leaves_rounding(ACTIVATION_PARAMETERS) {
    plain_quantize_activation(ACTIVATION_ARGUMENTS);
    fesetround(FE_TOWARDZERO);
}
MUTANT(leaves_rounding, .quantize_activation = leaves_rounding);

/* The early return for an empty row leaves before the rounding mode is set back. */
static void leaves_rounding_early(ROW_PARAMETERS) {
    if (k == 0) {
        fesetround(FE_UPWARD);
        return;
    }
    plain_quantize_row(ROW_ARGUMENTS);
}
MUTANT(leaves_rounding_early, .quantize_row = leaves_rounding_early);

/* Flush-to-zero is switched on for speed, and stays on. */
static void leaves_flush(DOT_PARAMETERS) {
    change(FLUSH, 0);
    plain_vec_dot(DOT_ARGUMENTS);
}
MUTANT(leaves_flush, .vec_dot = leaves_flush);

/* Flush-to-zero is switched off, whatever the caller had. */
static void clears_flush(DEQUANTIZE_PARAMETERS) {
    change(0, FLUSH);
    plain_dequantize_row(DEQUANTIZE_ARGUMENTS);
}
MUTANT(clears_flush, .dequantize_row = clears_flush);

#if defined(__x86_64__)

/* Exceptions are unmasked to find a division by zero, and left so. */
static void leaves_traps(ROW_PARAMETERS) {
    plain_quantize_row(ROW_ARGUMENTS);
    change(0, 0x1000); /* MXCSR: precision */
}
MUTANT(leaves_traps, .quantize_row_ref = leaves_traps);

/* The x87 unit is set to single precision, as numeric code of long ago did. */
static void leaves_x87(DOT_REAL_PARAMETERS) {
    struct fpenv env = fpenv_read();
    env.other &= ~UINT64_C(0x0300);
    fpenv_write(env);
    plain_vec_dot_real(DOT_REAL_ARGUMENTS);
}
MUTANT(leaves_x87, .vec_dot_real = leaves_x87);

enum { FTZ = 0x8000 };

/* One of the two bits stands for both: whoever sets one sets the other, too. */
static void links_flush(ACTIVATION_PARAMETERS) {
    const bool flushes = (fpenv_read().control & FTZ) != 0;
    change(0, FLUSH);
    plain_quantize_activation(ACTIVATION_ARGUMENTS);
    change(flushes ? FLUSH : 0, 0);
}
MUTANT(links_flush, .quantize_activation = links_flush);

/* FNINIT frees the registers that MMX instructions have used, as EMMS does, and forgets the caller's precision. */
static void resets_x87(DOT_PARAMETERS) {
    plain_vec_dot(DOT_ARGUMENTS);
    __asm__ volatile("fninit");
}
MUTANT(resets_x87, .vec_dot = resets_x87);

/* Halves are read through subnormal floats, which denormals-are-zero makes zeros. */
static void clears_with_ftz(DEQUANTIZE_PARAMETERS) {
    const struct fpenv found = fpenv_read();
    const uint8_t *block = x;
    if (found.control & FTZ) {
        change(0, FLUSH);
    }
    for (int64_t b = 0; b < k / QK8_A8; ++b, block += Q8A8_BLOCK_BYTES) {
        const uint32_t bits = (uint32_t)block[0] | (uint32_t)block[1] << 8;
        const uint32_t shifted = (bits & 0x8000) << 16 | (bits & 0x7fff) << 13;
        float small;
        memcpy(&small, &shifted, sizeof shifted);
        for (size_t j = 0; j < QK8_A8; ++j) {
            *y++ = small * 0x1p112f * (float)(int8_t)block[2 + j];
        }
    }
    fpenv_write(found);
}
MUTANT(clears_with_ftz, .dequantize_row = clears_with_ftz);

#elif defined(__aarch64__)

/* Subnormal halves are flushed to zero, for speed, from then on. */
static void leaves_fz16(DOT_PARAMETERS) {
    change(1 << 19, 0);
    plain_vec_dot(DOT_ARGUMENTS);
}
MUTANT(leaves_fz16, .vec_dot = leaves_fz16, .needs = {"asimdhp"});

#endif
