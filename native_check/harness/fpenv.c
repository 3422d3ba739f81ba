#include "fpenv.h"
#include "protocol.h"

#include <inttypes.h>
#include <stdio.h>

/* Bits of a control register, and the fault if they change. */
struct mode {
    uint64_t bits;
    uint32_t fault;
    const char *name;
};

#if defined(__x86_64__)

enum { FLUSH_BITS = 0x8040 };

static const struct mode control_modes[] = {
    {0x6000, FAULT_ROUNDING_MODE_CHANGED, "MXCSR.RC (rounding)"},
    {0x8000, FAULT_FLUSH_MODE_CHANGED, "MXCSR.FTZ (flush to zero)"},
    {0x0040, FAULT_FLUSH_MODE_CHANGED, "MXCSR.DAZ (denormals are zero)"},
    {0x1f80, FAULT_TRAP_MASK_CHANGED, "MXCSR (exception masks)"},
};
static const struct mode x87_modes[] = {
    {0x0c00, FAULT_ROUNDING_MODE_CHANGED, "x87 control word (rounding)"},
    {0x0300, FAULT_ROUNDING_MODE_CHANGED, "x87 control word (precision)"},
    {0x003f, FAULT_TRAP_MASK_CHANGED, "x87 control word (exception masks)"},
};

bool fpenv_known(void) {
    return true;
}

struct fpenv fpenv_read(void) {
    uint32_t mxcsr;
    uint16_t x87;
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(x87));
    return (struct fpenv){mxcsr & ~UINT64_C(0x3f), x87}; /* without the sticky flags */
}

void fpenv_write(struct fpenv env) {
    const uint32_t mxcsr = (uint32_t)env.control;
    const uint16_t x87 = (uint16_t)env.x87;
    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
    __asm__ volatile("fnclex\n\tfldcw %0" : : "m"(x87));
}

#elif defined(__aarch64__)

enum { FLUSH_BITS = 1 << 24 | 1 << 19 };

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
static const struct mode x87_modes[] = {{0, 0, ""}};

bool fpenv_known(void) {
    return true;
}

struct fpenv fpenv_read(void) {
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return (struct fpenv){fpcr, 0};
}

void fpenv_write(struct fpenv env) {
    __asm__ volatile("msr fpcr, %0" : : "r"(env.control));
}

#else

enum { FLUSH_BITS = 0 };

static const struct mode control_modes[] = {{0, 0, ""}};
static const struct mode x87_modes[] = {{0, 0, ""}};

bool fpenv_known(void) {
    return false;
}

struct fpenv fpenv_read(void) {
    return (struct fpenv){0, 0};
}

void fpenv_write(struct fpenv env) {
    (void)env;
}

#endif

struct fpenv fpenv_flushing(struct fpenv env) {
    env.control |= (uint64_t)FLUSH_BITS;
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
           compare(before.x87, after.x87, x87_modes, sizeof x87_modes / sizeof *x87_modes, text, size);
}
