#include "abi.h"
#include "kernel.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

const struct abi_function abi_functions[ABI_FUNCTIONS] = {
    {"quantize_row_q8_a8_ref", 2, {{"x", false, 4, 4}, {"y", true, 2, 1}}},
    {"quantize_row_q8_a8", 2, {{"x", false, 4, 4}, {"y", true, 2, 1}}},
    {"dequantize_row_q8_a8", 2, {{"x", false, 2, 1}, {"y", true, 4, 4}}},
    {"quantize_activation_q8_a8", 3, {{"input", false, 4, 4}, {"output", true, 1, 1}, {"scale", true, 2, 2}}},
    {"ggml_vec_dot_q8_a8_q8_a8", 3, {{"s", true, 4, 4}, {"vx", false, 2, 1}, {"vy", false, 2, 1}}},
    {"ggml_vec_dot_q8_a8_q8_a8_real", 3, {{"s", true, 4, 4}, {"vx", false, 2, 1}, {"vy", false, 2, 1}}},
    {"mul_mat_q8_a8", 3, {{"w", false, 2, 1}, {"x", false, 4, 4}, {"out", true, 4, 4}}},
};

int abi_find(const char *name) {
    for (int number = 0; number < ABI_FUNCTIONS; ++number) {
        if (strcmp(abi_functions[number].name, name) == 0) {
            return number;
        }
    }
    return -1;
}

/* The required size of each buffer in bytes. The integers are legal, so that nothing overflows: n < 2^31 or is
 * bounded by the longest frame, strides below 2^32, rows of a matrix below 2^28. */
static void needed_bytes(unsigned number, const struct abi_integers *call, int64_t *bytes) {
    const int64_t row = call->n / QK8_A8 * Q8A8_BLOCK_BYTES;
    const int64_t row_v2 = call->n / QK8_A8 * Q8A8_V2_BLOCK_BYTES;
    const int64_t more = call->nrc - 1;
    switch (number) {
    case 0:
    case 1:
        bytes[0] = 4 * call->n;
        bytes[1] = row;
        break;
    case 2:
        bytes[0] = row;
        bytes[1] = 4 * call->n;
        break;
    case 3:
        bytes[0] = 4 * call->n;
        bytes[1] = call->n;
        bytes[2] = 2;
        break;
    case 4: /* Q8A8-DOT-6: row r of x starts at byte r * bx, result (i, j) is s[j * bs + i] */
        bytes[0] = 4 * (more != 0 ? call->bs + 2 : 1);
        bytes[1] = (more != 0 ? call->bx : 0) + row;
        bytes[2] = (more != 0 ? call->by : 0) + row;
        break;
    case 6:
        bytes[0] = row * call->bs;
        bytes[1] = 4 * call->n * call->bx;
        bytes[2] = 4 * call->bs * call->bx;
        break;
    default:
        bytes[0] = 4;
        bytes[1] = row_v2;
        bytes[2] = row_v2;
        break;
    }
}

const char *abi_refuse(unsigned number, const struct abi_integers *call, const size_t *lengths) {
    static char why[160];
    const int64_t stride_limit = INT64_C(1) << 32;
    const int64_t row_limit = INT64_C(1) << 28; /* an array of as many floats fills no frame */

    if (call->n < 0 || call->n > INT_MAX) {
        snprintf(why, sizeof why, "n = %" PRId64 ": expected 0 to %d elements", call->n, INT_MAX);
        return why;
    }
    if (number != 3 && call->n % QK8_A8 != 0) {
        snprintf(why, sizeof why, "n = %" PRId64 " is not a multiple of %d", call->n, QK8_A8);
        return why;
    }
    if (number == 4) {
        if (call->nrc != 1 && call->nrc != 2) {
            snprintf(why, sizeof why, "nrc = %" PRId64 ": expected 1 or 2", call->nrc);
            return why;
        }
        /* nrc = 1 ignores the strides (Q8A8-DOT-12) */
        const int64_t strides[] = {call->bs, call->bx, call->by};
        for (size_t i = 0; call->nrc == 2 && i < 3; ++i) {
            if (strides[i] < 0 || strides[i] >= stride_limit) {
                snprintf(why, sizeof why, "stride %" PRId64 ": out of range", strides[i]);
                return why;
            }
        }
    }
    if (number == 6 && (call->bs < 0 || call->bs >= row_limit || call->bx < 0 || call->bx >= row_limit)) {
        snprintf(why, sizeof why, "m = %" PRId64 ", n = %" PRId64 ": expected 0 to 2^28 - 1 rows", call->bs, call->bx);
        return why;
    }
    int64_t needed[ABI_MAX_BUFFERS] = {0};
    struct abi_integers own = *call;
    if (number != 4) {
        own.nrc = 1; /* not used by the other functions */
    }
    needed_bytes(number, &own, needed);
    for (size_t i = 0; i < abi_functions[number].buffer_count; ++i) {
        if ((uint64_t)lengths[i] < (uint64_t)needed[i]) {
            snprintf(why, sizeof why, "buffer %s has %zu bytes, the call needs %" PRId64,
                     abi_functions[number].buffers[i].name, lengths[i], needed[i]);
            return why;
        }
    }
    return NULL;
}

void abi_undefine(unsigned number, uint64_t words[ABI_WORDS]) {
#if defined(__x86_64__) || defined(__aarch64__)
    static const unsigned char ints[][2] = {[3] = {3, 3}, [4] = {0, 7}, [5] = {0, 0}};
    if (number >= 3 && number <= 5) {
        for (size_t i = 0; i < 2; ++i) {
            memset((unsigned char *)&words[ints[number][i]] + 4, ABI_UNDEFINED, 4);
        }
    }
    static const unsigned char counts[] = {3, 3, 3, 4, 8, 4, 6};
    memset(words + counts[number], ABI_UNDEFINED, (ABI_WORDS - counts[number]) * sizeof *words);
#else
    (void)number, (void)words;
#endif
}

void abi_words(unsigned number, const struct abi_integers *call, void *const *p, uint64_t words[ABI_WORDS]) {
    const uint64_t n = (uint64_t)call->n;
    uint64_t b[ABI_MAX_BUFFERS] = {0};
    for (size_t i = 0; i < abi_functions[number].buffer_count; ++i) {
        b[i] = (uint64_t)(uintptr_t)p[i];
    }
    memset(words, 0, ABI_WORDS * sizeof *words);
    switch (number) {
    case 0:
    case 1:
    case 2:
        memcpy(words, (uint64_t[]){b[0], b[1], n}, 3 * sizeof *words);
        break;
    case 3:
        memcpy(words, (uint64_t[]){b[0], b[1], b[2], n}, 4 * sizeof *words);
        break;
    case 4:
        memcpy(words,
               (uint64_t[]){n, b[0], (uint64_t)call->bs, b[1], (uint64_t)call->bx, b[2], (uint64_t)call->by,
                            (uint64_t)call->nrc},
               ABI_WORDS * sizeof *words);
        break;
    case 6:
        memcpy(words, (uint64_t[]){(uint64_t)call->bs, (uint64_t)call->bx, n, b[0], b[1], b[2]}, 6 * sizeof *words);
        break;
    default:
        memcpy(words, (uint64_t[]){n, b[0], b[1], b[2]}, 4 * sizeof *words);
        break;
    }
}

void abi_invoke(unsigned number, abi_pointer *function, const struct abi_integers *call, void *const *p) {
    switch (number) {
    case 0:
    case 1:
        ((q8a8_quantize_row_fn *)function)(p[0], p[1], call->n);
        break;
    case 2:
        ((q8a8_dequantize_row_fn *)function)(p[0], p[1], call->n);
        break;
    case 3:
        ((q8a8_quantize_activation_fn *)function)(p[0], p[1], p[2], (int)call->n);
        break;
    case 4:
        ((q8a8_vec_dot_fn *)function)((int)call->n, p[0], (size_t)call->bs, p[1], (size_t)call->bx, p[2],
                                      (size_t)call->by, (int)call->nrc);
        break;
    case 6:
        ((q8a8_mul_mat_fn *)function)(call->bs, call->bx, call->n, p[0], p[1], p[2]);
        break;
    default:
        ((q8a8_vec_dot_real_fn *)function)((int)call->n, p[0], p[1], p[2]);
        break;
    }
}
