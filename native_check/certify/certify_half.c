/* f32 -> f16 on all 2^32 patterns, by three independent methods:
 *
 *   kernels/half.h   shifts the significand and rounds the bits shifted out
 *   walk             counts through the floats of each half, without shifting or rounding (below)
 *   processor        F16C on x86, FCVT on Arm; otherwise the compiler's _Float16
 *
 *   certify_half [--shard I/N] [--every N]
 *
 * --every N compares only every Nth pattern, and the three around each step.
 * Exit status: 0 all three agree, 1 they do not, 2 usage. */
#include "cpu.h"
#include "half.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGNITUDES UINT64_C(0x80000000)
#define INFINITE 0x7f800000u

/* The processor's conversion. */
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#define PROCESSOR "F16C"
static int processor_converts(void) {
    return cpu_has("avx") && cpu_has("f16c");
}
__attribute__((target("avx,f16c"))) static void by_processor(uint32_t first, uint16_t *half) {
    float x[8];
    for (uint32_t i = 0; i < 8; ++i) {
        x[i] = q8a8_float_of_bits(first + i);
    }
    const __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(x), _MM_FROUND_TO_NEAREST_INT);
    memcpy(half, &h, 16);
}
#elif defined(__aarch64__)
#define PROCESSOR "FCVT"
static int processor_converts(void) {
    return 1;
}
static void by_processor(uint32_t first, uint16_t *half) {
    for (uint32_t i = 0; i < 8; ++i) {
        uint32_t result;
        const float x = q8a8_float_of_bits(first + i);
        __asm__("fcvt %h0, %s1" : "=w"(result) : "w"(x));
        half[i] = (uint16_t)(result & 0xffff);
    }
}
#else
#define PROCESSOR "no conversion"
static int processor_converts(void) {
    return 0;
}
static void by_processor(uint32_t first, uint16_t *half) {
    (void)first, (void)half;
}
#endif

/* The smallest magnitude that rounds to the half h >= 1 or beyond. The midpoint of h - 1 and h is a float: with one
 * bit more than a half has, it is halfway between their patterns once both are in a float's format. It goes to the
 * even of the two. The halves are widened by counting: the first normal half is 2^-14, pattern 0x38800000, and each
 * next one is 2^13 patterns further; below, h halves are h * 2^-24, and a float counts to 2^11 exactly. */
static uint32_t widened(uint32_t h) {
    if (h >= 0x400) {
        return 0x38800000u + ((h - 0x400) << 13);
    }
    const float x = (float)h * 0x1p-24f;
    return q8a8_bits_of_float(x);
}

static uint32_t step(uint32_t h) {
    uint32_t midpoint;
    if (h > 0x400) {
        midpoint = widened(h) - (UINT32_C(1) << 12); /* one format, and one spacing, on both sides */
    } else {
        const float x = (float)(2 * h - 1) * 0x1p-25f;
        midpoint = q8a8_bits_of_float(x);
    }
    return midpoint + (h & 1u);
}

static int is_nan(uint32_t half) {
    return (half & 0x7fffu) > 0x7c00u;
}

struct count {
    uint64_t patterns, nans;
};

/* Compare eight patterns that start at a multiple of 8; `h` walks along. Returns 0 at a difference. */
static int eight(uint32_t first, uint32_t *h, uint32_t *next, int processor, struct count *count) {
    const uint32_t sign = first & 0x80000000u;
    uint16_t third[8] = {0};
    if (processor) {
        by_processor(first, third);
    }
    for (uint32_t i = 0; i < 8; ++i) {
        const uint32_t bits = first + i;
        const uint32_t magnitude = bits - sign;
        const uint16_t one = q8a8_float_to_half(q8a8_float_of_bits(bits));
        while (*h < 0x7c00 && magnitude >= *next) {
            ++*h;
            *next = *h < 0x7c00 ? step(*h + 1) : UINT32_MAX;
        }
        int same;
        if (magnitude > INFINITE) { /* a NaN: its payload is unspecified */
            same = is_nan(one) && (!processor || is_nan(third[i]));
            ++count->nans;
        } else {
            const uint32_t walked = *h | sign >> 16;
            same = one == walked && (!processor || third[i] == walked);
        }
        if (!same) {
            printf("x = 0x%08" PRIx32 ": half.h 0x%04x, walk 0x%04" PRIx32 ", " PROCESSOR " 0x%04x\n", bits, one,
                   *h | sign >> 16, third[i]);
            return 0;
        }
        ++count->patterns;
    }
    return 1;
}

/* Compare the patterns of one sign in [start, stop), the first eight of every `every`. */
static int sweep(uint32_t sign, uint64_t start, uint64_t stop, uint64_t every, int processor, struct count *count) {
    uint32_t h = 0;
    uint32_t next = step(1);
    for (uint64_t magnitude = start; magnitude < stop; magnitude += every) {
        if (!eight(sign | (uint32_t)magnitude, &h, &next, processor, count)) {
            return 0;
        }
    }
    return 1;
}

/* The patterns around every step, and around infinity. */
static int around_steps(uint32_t sign, int processor, struct count *count) {
    uint32_t h = 0;
    uint32_t next = step(1);
    uint32_t last = 0;
    for (uint32_t half = 1; half <= 0x7c00; ++half) {
        const uint32_t here = step(half) & ~7u;
        for (uint32_t first = here > 8 ? here - 8 : 0; first <= here; first += 8) {
            if (first >= last && !eight(sign | first, &h, &next, processor, count)) {
                return 0;
            }
            last = first + 8;
        }
    }
    return eight(sign | (INFINITE - 8), &h, &next, processor, count) &&
           eight(sign | INFINITE, &h, &next, processor, count);
}

static int number(const char *text, char end, uint64_t *value, const char **rest) {
    char *stop = NULL;
    errno = 0;
    const unsigned long long parsed = strtoull(text, &stop, 10);
    if (errno != 0 || stop == text || *stop != end || *text < '0' || *text > '9' || parsed == 0) {
        return 0;
    }
    *value = parsed;
    *rest = end != '\0' ? stop + 1 : stop;
    return 1;
}

static int usage(void) {
    fputs("usage: certify_half [--shard I/N] [--every N]\n", stderr);
    return 2;
}

int main(int argc, char **argv) {
    uint64_t shard = 1;
    uint64_t shards = 1;
    uint64_t every = 1;
    for (int i = 1; i < argc; i += 2) {
        const char *rest = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--shard") == 0) {
            if (!number(rest, '/', &shard, &rest) || !number(rest, '\0', &shards, &rest) || shard > shards ||
                shards > 65536) {
                return usage();
            }
        } else if (strcmp(argv[i], "--every") != 0 || !number(rest, '\0', &every, &rest) || every > MAGNITUDES) {
            return usage();
        }
    }
    const int processor = processor_converts();
    struct count count = {0, 0};
    /* Shards begin at multiples of eight, and steps of --every are rounded up to such. */
    const uint64_t start = MAGNITUDES / 8 * (shard - 1) / shards * 8;
    const uint64_t stop = MAGNITUDES / 8 * shard / shards * 8;
    const uint64_t stride = (every + 7) / 8 * 8;
    for (uint32_t sign = 0;; sign = 0x80000000u) {
        if (!sweep(sign, start, stop, stride, processor, &count) ||
            (every > 1 && !around_steps(sign, processor, &count))) {
            return 1;
        }
        if (sign != 0) {
            break;
        }
    }
    printf("half.h, walk%s: %" PRIu64 " patterns, %" PRIu64 " of them NaNs, no difference\n",
           processor ? ", " PROCESSOR : " (this processor does not convert)", count.patterns, count.nans);
    return 0;
}
