#include "cpu.h"

#include <stdint.h>
#include <string.h>
#include <sys/utsname.h>

const char *cpu_architecture(void) {
    static struct utsname name;
    return uname(&name) == 0 ? name.machine : "unknown";
}

#if defined(__aarch64__)

#include <sys/auxv.h>
#include <sys/prctl.h>

/* Bit numbers of the kernel's interface, for older C libraries. */
enum { AUX_HWCAP = 16, AUX_HWCAP2 = 26, GET_SVE_LENGTH = 51, SVE_LENGTH_MASK = 0xffff };

static const struct {
    const char *name;
    unsigned long vector; /* of the auxiliary vector */
    unsigned bit;
} features[] = {
    {"asimd", AUX_HWCAP, 1},   {"fphp", AUX_HWCAP, 9}, {"asimdhp", AUX_HWCAP, 10}, {"asimddp", AUX_HWCAP, 20},
    {"asimdfhm", AUX_HWCAP, 23}, {"i8mm", AUX_HWCAP2, 13}, {"bf16", AUX_HWCAP2, 14},   {"sve", AUX_HWCAP, 22},
    {"sve2", AUX_HWCAP2, 1},   {"svei8mm", AUX_HWCAP2, 9}, {"sme", AUX_HWCAP2, 23},
};

static bool feature_present(size_t i) {
    return (getauxval(features[i].vector) >> features[i].bit & 1) != 0;
}

unsigned cpu_sve_bits(void) {
    const int length = cpu_has("sve") ? prctl(GET_SVE_LENGTH, 0, 0, 0, 0) : -1;
    return length < 0 ? 0 : 8 * ((unsigned)length & SVE_LENGTH_MASK);
}

#elif defined(__riscv)

#include <sys/auxv.h>

/* Extensions of one letter have its bit in the auxiliary vector. */
static const struct {
    const char *name;
} features[] = {{"f"}, {"d"}, {"c"}, {"v"}};

static bool feature_present(size_t i) {
    return (getauxval(AT_HWCAP) >> (features[i].name[0] - 'a') & 1) != 0;
}

unsigned cpu_sve_bits(void) {
    return 0;
}

#elif defined(__x86_64__)

#include <cpuid.h>

enum { EAX, EBX, ECX, EDX };

static const struct {
    const char *name;
    unsigned leaf, subleaf, reg, bit;
    uint64_t state; /* register state that the operating system must save: bits of XCR0 */
} features[] = {
    {"ssse3", 1, 0, ECX, 9, 0},         {"sse4_1", 1, 0, ECX, 19, 0},      {"avx", 1, 0, ECX, 28, 0x6},
    {"f16c", 1, 0, ECX, 29, 0x6},       {"fma", 1, 0, ECX, 12, 0x6},       {"avx2", 7, 0, EBX, 5, 0x6},
    {"avx_vnni", 7, 1, EAX, 4, 0x6},    {"avx512f", 7, 0, EBX, 16, 0xe6},  {"avx512bw", 7, 0, EBX, 30, 0xe6},
    {"avx512vl", 7, 0, EBX, 31, 0xe6},  {"avx512_vnni", 7, 0, ECX, 11, 0xe6}, {"amx_int8", 7, 0, EDX, 25, 0x60000},
};

static uint64_t enabled_state(void) {
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) { /* no OSXSAVE: only SSE state is saved */
        return 0;
    }
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static bool feature_present(size_t i) {
    unsigned registers[4] = {0};
    if (!__get_cpuid_count(features[i].leaf, features[i].subleaf, &registers[EAX], &registers[EBX], &registers[ECX],
                           &registers[EDX])) {
        return false;
    }
    return (registers[features[i].reg] >> features[i].bit & 1) != 0 &&
           (enabled_state() & features[i].state) == features[i].state;
}

unsigned cpu_sve_bits(void) {
    return 0;
}

#else

static const struct {
    const char *name;
} features[] = {{""}};

static bool feature_present(size_t i) {
    (void)i;
    return false;
}

unsigned cpu_sve_bits(void) {
    return 0;
}

#endif

const char *cpu_feature(size_t i, bool *present) {
    if (i >= sizeof features / sizeof *features) {
        return NULL;
    }
    *present = feature_present(i);
    return features[i].name;
}

bool cpu_has(const char *feature) {
    bool present;
    const char *name;
    for (size_t i = 0; (name = cpu_feature(i, &present)) != NULL; ++i) {
        if (strcmp(name, feature) == 0) {
            return present;
        }
    }
    return false;
}
