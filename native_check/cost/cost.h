/* The product whose instructions are counted (q8a8_lab/pages/arm_cost.py): 1024 rows of 32 blocks by up to 32 rows of x. */
#ifndef Q8A8_COST_H
#define Q8A8_COST_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { M = 1024, K = 1024, MOST_N = 32, BLOCKS = K / 32, BLOCK_BYTES = 34 };

static uint8_t weights[M * BLOCKS * BLOCK_BYTES];
static float x[MOST_N * K];
static float out[MOST_N * M];

/* Values do not matter for the count: no kernel looks at them. Scales must be finite. */
static inline void fill(void) {
    for (size_t i = 0; i < sizeof weights; ++i) {
        weights[i] = (uint8_t)(i * 37 % 60);
    }
    for (size_t i = 0; i < sizeof x / sizeof *x; ++i) {
        x[i] = (float)((int)(i * 41 % 255) - 127);
    }
}

static inline int rows_of_x(const char *text) {
    const int n = atoi(text);
    if (n < 1 || n > MOST_N) {
        fprintf(stderr, "1 to %d rows of x\n", MOST_N);
        exit(2);
    }
    return n;
}

static inline int usage(const char *text) {
    fprintf(stderr, "usage: %s\n", text);
    return 2;
}

#endif
