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

#elif defined(__aarch64__)

/* Subnormal halves are flushed to zero, for speed, from then on. */
static void leaves_fz16(DOT_PARAMETERS) {
    change(1 << 19, 0);
    plain_vec_dot(DOT_ARGUMENTS);
}
MUTANT(leaves_fz16, .vec_dot = leaves_fz16, .needs = {"asimdhp"});

#endif
