/* What this CPU is and can do, by the names that Linux gives it in /proc/cpuinfo. */
#ifndef Q8A8_HARNESS_CPU_H
#define Q8A8_HARNESS_CPU_H

#include <stdbool.h>
#include <stddef.h>

const char *cpu_architecture(void); /* "aarch64", "x86_64" ... */

/* The features that matter to kernels: name i and whether this CPU has it; NULL after the last. */
const char *cpu_feature(size_t i, bool *present);

bool cpu_has(const char *feature);

/* Bits of an SVE register, 0 without SVE. */
unsigned cpu_sve_bits(void);

/* Whether another program interprets this one (qemu-user and the like): 1 yes, 0 no, -1 not known.
 * A whole emulated machine is not noticed. */
int cpu_emulated(void);

#endif
