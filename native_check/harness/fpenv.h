/* The floating-point environment: its modes, not its sticky exception flags (Q8A8-ENV-1). */
#ifndef Q8A8_HARNESS_FPENV_H
#define Q8A8_HARNESS_FPENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fpenv {
    uint64_t control; /* x86: MXCSR. Arm: FPCR. RISC-V: fcsr. POWER: FPSCR. IBM Z: FPC */
    uint64_t other;   /* x86: the x87 control word. POWER: the vectors' VSCR */
};

/* Whether the environment of this processor is supported. */
bool fpenv_known(void);

/* Whether it has a mode in which subnormal numbers are flushed to zero. */
bool fpenv_flushes(void);

struct fpenv fpenv_read(void);
void fpenv_write(struct fpenv env);

/* The same environment with flush-to-zero and denormals-are-zero set; by turns of three, with both, with the first, with
 * the second. */
struct fpenv fpenv_flushing(struct fpenv env, uint32_t turn);

/* The same environment with another precision of what no result depends on, where there is such a thing. */
struct fpenv fpenv_imprecise(struct fpenv env);

/* The protocol's fault bits for the differences; writes a text about the first one to `text`, which must hold an
 * empty string. */
uint32_t fpenv_compare(struct fpenv before, struct fpenv after, char *text, size_t size);

#endif
