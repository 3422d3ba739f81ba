/* A test program counts its failures, prints the first ones, and exits with 1 if there are any. */
#ifndef Q8A8_TESTS_CHECK_H
#define Q8A8_TESTS_CHECK_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static unsigned long check_count, check_failures;

static inline void check_that(int good, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline void check_that(int good, const char *format, ...) {
    ++check_count;
    if (good) {
        return;
    }
    if (++check_failures <= 20) {
        va_list arguments;
        va_start(arguments, format);
        fputs("FAIL ", stdout);
        vprintf(format, arguments);
        putchar('\n');
        va_end(arguments);
    }
}

static inline int check_report(const char *name) {
    printf("%s: %lu checks, %lu failures\n", name, check_count, check_failures);
    return check_failures != 0 || check_count == 0;
}

/* splitmix64: the same numbers on every machine. */
static uint64_t check_seed = 1;

static inline uint64_t random_u64(void) {
    uint64_t z = check_seed += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static inline uint32_t random_below(uint32_t limit) {
    return (uint32_t)(random_u64() >> 32) % limit;
}

static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#endif
