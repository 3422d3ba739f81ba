/* kernels/half.h as a library, under ggml's names for conversions of whole arrays, for
 * `q8a8 certify lib:libq8a8-half.so` on all 2^32 floats and all 65,536 halves. */
#include "half.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT void ggml_fp32_to_fp16_row(const float *x, uint16_t *y, int64_t n);
EXPORT void ggml_fp16_to_fp32_row(const uint16_t *x, float *y, int64_t n);

void ggml_fp32_to_fp16_row(const float *x, uint16_t *y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
        y[i] = q8a8_float_to_half(x[i]);
    }
}

void ggml_fp16_to_fp32_row(const uint16_t *x, float *y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
        y[i] = q8a8_half_to_float(x[i]);
    }
}
