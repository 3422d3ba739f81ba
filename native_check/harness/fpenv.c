#include "fpenv.h"
#include "protocol.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Bits of a control register, and the fault if they change. */
struct mode {
    uint64_t bits;
    uint32_t fault;
    const char *name;
};

#if defined(__x86_64__)

enum { FLUSH_BITS = 0x8040, FIRST_FLUSH_BIT = 0x8000, OTHER_FLUSH_BITS = 0 };
enum { PRECISION_BITS = 0x0300, UNUSUAL_PRECISION = 0x0200 }; /* of the x87 unit, 53 bits */

static const struct mode control_modes[] = {
    {0x6000, FAULT_ROUNDING_MODE_CHANGED, "MXCSR.RC (rounding)"},
    {0x8000, FAULT_FLUSH_MODE_CHANGED, "MXCSR.FTZ (flush to zero)"},
    {0x0040, FAULT_FLUSH_MODE_CHANGED, "MXCSR.DAZ (denormals are zero)"},
    {0x1f80, FAULT_TRAP_MASK_CHANGED, "MXCSR (exception masks)"},
};
static const struct mode other_modes[] = {
    {0x0c00, FAULT_ROUNDING_MODE_CHANGED, "x87 control word (rounding)"},
    {0x0300, FAULT_ROUNDING_MODE_CHANGED, "x87 control word (precision)"},
    {0x003f, FAULT_TRAP_MASK_CHANGED, "x87 control word (exception masks)"},
};

struct fpenv fpenv_read(void) {
    uint32_t mxcsr;
    uint16_t x87;
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(x87));
    return (struct fpenv){mxcsr & ~UINT64_C(0x3f), x87}; /* without the sticky flags */
}

void fpenv_write(struct fpenv env) {
    const uint32_t mxcsr = (uint32_t)env.control;
    const uint16_t x87 = (uint16_t)env.other;
    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
    __asm__ volatile("fnclex\n\tfldcw %0" : : "m"(x87));
}

#elif defined(__aarch64__)

enum { FLUSH_BITS = 1 << 24 | 1 << 19, FIRST_FLUSH_BIT = 1 << 24, OTHER_FLUSH_BITS = 0 };
enum { PRECISION_BITS = 0, UNUSUAL_PRECISION = 0 };

static const struct mode control_modes[] = {
    {UINT64_C(3) << 22, FAULT_ROUNDING_MODE_CHANGED, "FPCR.RMode (rounding)"},
    {UINT64_C(1) << 24, FAULT_FLUSH_MODE_CHANGED, "FPCR.FZ (flush to zero)"},
    {UINT64_C(1) << 19, FAULT_FLUSH_MODE_CHANGED, "FPCR.FZ16 (flush halves to zero)"},
    {UINT64_C(1) << 0, FAULT_FLUSH_MODE_CHANGED, "FPCR.FIZ (flush inputs to zero)"},
    {UINT64_C(1) << 1, FAULT_FLUSH_MODE_CHANGED, "FPCR.AH (alternate handling)"},
    {UINT64_C(1) << 2, FAULT_FLUSH_MODE_CHANGED, "FPCR.NEP"},
    {UINT64_C(1) << 25, FAULT_FLUSH_MODE_CHANGED, "FPCR.DN (default NaN)"},
    {UINT64_C(1) << 26, FAULT_FLUSH_MODE_CHANGED, "FPCR.AHP (alternative half precision)"},
    {UINT64_C(0x9f00), FAULT_TRAP_MASK_CHANGED, "FPCR (exception traps)"},
};
static const struct mode other_modes[] = {{0, 0, ""}};

struct fpenv fpenv_read(void) {
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return (struct fpenv){fpcr, 0};
}

void fpenv_write(struct fpenv env) {
    __asm__ volatile("msr fpcr, %0" : : "r"(env.control));
}

#elif defined(__riscv)

/* A processor without flush modes and without traps. */
enum { FLUSH_BITS = 0, FIRST_FLUSH_BIT = 0, OTHER_FLUSH_BITS = 0 };
enum { PRECISION_BITS = 0, UNUSUAL_PRECISION = 0 };

static const struct mode control_modes[] = {{0xe0, FAULT_ROUNDING_MODE_CHANGED, "fcsr.frm (rounding)"}};
static const struct mode other_modes[] = {{0, 0, ""}};

struct fpenv fpenv_read(void) {
    uint64_t fcsr;
    __asm__ volatile("csrr %0, fcsr" : "=r"(fcsr));
    return (struct fpenv){fcsr, 0};
}

void fpenv_write(struct fpenv env) {
    __asm__ volatile("csrw fcsr, %0" : : "r"(env.control));
}

#elif defined(__powerpc64__)

enum { FLUSH_BITS = 1 << 2, FIRST_FLUSH_BIT = 1 << 2, OTHER_FLUSH_BITS = 1 << 16 };
enum { PRECISION_BITS = 0, UNUSUAL_PRECISION = 0 };

static const struct mode control_modes[] = {
    {0x3, FAULT_ROUNDING_MODE_CHANGED, "FPSCR.RN (rounding)"},
    {UINT64_C(7) << 32, FAULT_ROUNDING_MODE_CHANGED, "FPSCR.DRN (decimal rounding)"},
    {0x4, FAULT_FLUSH_MODE_CHANGED, "FPSCR.NI (not IEEE)"},
    {0xf8, FAULT_TRAP_MASK_CHANGED, "FPSCR (exception enables)"},
};
static const struct mode other_modes[] = {{1 << 16, FAULT_FLUSH_MODE_CHANGED, "VSCR.NJ (flush to zero)"}};

/* VSCR is the last word of a vector. */
typedef uint32_t vscr_words __attribute__((vector_size(16)));
enum { VSCR_WORD = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 0 : 3 };

struct fpenv fpenv_read(void) {
    double fpscr;
    uint64_t bits;
    vscr_words vscr;
    __asm__ volatile("mffs %0" : "=f"(fpscr));
    __asm__ volatile("mfvscr %0" : "=v"(vscr));
    memcpy(&bits, &fpscr, sizeof bits);
    return (struct fpenv){bits, vscr[VSCR_WORD]};
}

void fpenv_write(struct fpenv env) {
    double fpscr;
    vscr_words vscr = {0};
    memcpy(&fpscr, &env.control, sizeof fpscr);
    vscr[VSCR_WORD] = (uint32_t)env.other;
    __asm__ volatile("mtfsf 0xff, %0, 1, 0" : : "f"(fpscr));
    __asm__ volatile("mtvscr %0" : : "v"(vscr));
}

#elif defined(__s390x__)

/* A processor without flush modes. */
enum { FLUSH_BITS = 0, FIRST_FLUSH_BIT = 0, OTHER_FLUSH_BITS = 0 };
enum { PRECISION_BITS = 0, UNUSUAL_PRECISION = 0 };

static const struct mode control_modes[] = {
    {0x7, FAULT_ROUNDING_MODE_CHANGED, "FPC (rounding)"},
    {0x70, FAULT_ROUNDING_MODE_CHANGED, "FPC (decimal rounding)"},
    {0xfc000000, FAULT_TRAP_MASK_CHANGED, "FPC (exception masks)"},
};
static const struct mode other_modes[] = {{0, 0, ""}};

struct fpenv fpenv_read(void) {
    uint32_t fpc;
    __asm__ volatile("stfpc %0" : "=Q"(fpc));
    return (struct fpenv){fpc, 0};
}

void fpenv_write(struct fpenv env) {
    const uint32_t fpc = (uint32_t)env.control;
    __asm__ volatile("lfpc %0" : : "Q"(fpc));
}

#else

#define UNKNOWN

enum { FLUSH_BITS = 0, FIRST_FLUSH_BIT = 0, OTHER_FLUSH_BITS = 0 };
enum { PRECISION_BITS = 0, UNUSUAL_PRECISION = 0 };

static const struct mode control_modes[] = {{0, 0, ""}};
static const struct mode other_modes[] = {{0, 0, ""}};

struct fpenv fpenv_read(void) {
    return (struct fpenv){0, 0};
}

void fpenv_write(struct fpenv env) {
    (void)env;
}

#endif

bool fpenv_known(void) {
#if defined(UNKNOWN)
    return false;
#else
    return true;
#endif
}

bool fpenv_flushes(void) {
    return FLUSH_BITS != 0;
}

struct fpenv fpenv_flushing(struct fpenv env, uint32_t turn) {
    if (turn % 3 != 2) {
        env.control |= (uint64_t)FIRST_FLUSH_BIT;
    }
    if (turn % 3 != 1) {
        env.control |= (uint64_t)(FLUSH_BITS & ~FIRST_FLUSH_BIT);
        env.other |= (uint64_t)OTHER_FLUSH_BITS;
    }
    return env;
}

struct fpenv fpenv_imprecise(struct fpenv env) {
    env.other = (env.other & ~(uint64_t)PRECISION_BITS) | (uint64_t)UNUSUAL_PRECISION;
    return env;
}

static uint32_t compare(uint64_t before, uint64_t after, const struct mode *modes, size_t count, char *text,
                        size_t size) {
    uint32_t faults = 0;
    for (size_t i = 0; i < count; ++i) {
        if ((before ^ after) & modes[i].bits) {
            faults |= modes[i].fault;
            if (text[0] == '\0') { /* the first change is reported */
                snprintf(text, size, "%s changed: %#" PRIx64 " before, %#" PRIx64 " after", modes[i].name, before, after);
            }
        }
    }
    return faults;
}

uint32_t fpenv_compare(struct fpenv before, struct fpenv after, char *text, size_t size) {
    return compare(before.control, after.control, control_modes, sizeof control_modes / sizeof *control_modes, text,
                   size) |
           compare(before.other, after.other, other_modes, sizeof other_modes / sizeof *other_modes, text, size);
}
