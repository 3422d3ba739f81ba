/* This CPU's architecture and features, named as in Linux's /proc/cpuinfo. */
#ifndef Q8A8_HARNESS_CPU_H
#define Q8A8_HARNESS_CPU_H

#include <stdbool.h>
#include <stddef.h>

const char *cpu_architecture(void); /* "aarch64", "x86_64" ... */

/* The features used by kernels: name i and whether this CPU has it; NULL after the last. */
const char *cpu_feature(size_t i, bool *present);

bool cpu_has(const char *feature);

/* Bits of an SVE register, 0 without SVE. */
unsigned cpu_sve_bits(void);

/* Whether a user-mode emulator (such as qemu-user) runs this program: 1 yes, 0 no, -1 unknown. The emulation of a
 * whole machine is not detected. */
int cpu_emulated(void);

#endif
