/* Exports one kernel under the names of q8a8.h. It is compiled once for each libq8a8-NAME.so, with
 * -DQ8A8_KERNEL=q8a8_kernel_NAME. */
#include "kernel.h"

#define EXPORT __attribute__((visibility("default")))

extern const struct q8a8_kernel Q8A8_KERNEL;

EXPORT void quantize_row_q8_a8_ref(const float *x, void *y, int64_t k) {
    Q8A8_KERNEL.quantize_row_ref(x, y, k);
}

EXPORT void quantize_row_q8_a8(const float *x, void *y, int64_t k) {
    Q8A8_KERNEL.quantize_row(x, y, k);
}

EXPORT void dequantize_row_q8_a8(const void *x, float *y, int64_t k) {
    Q8A8_KERNEL.dequantize_row(x, y, k);
}

EXPORT void quantize_activation_q8_a8(const float *input, int8_t *output, uint16_t *scale, int size) {
    Q8A8_KERNEL.quantize_activation(input, output, scale, size);
}

EXPORT void ggml_vec_dot_q8_a8_q8_a8(int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy, size_t by,
                                     int nrc) {
    Q8A8_KERNEL.vec_dot(n, s, bs, vx, bx, vy, by, nrc);
}

EXPORT void ggml_vec_dot_q8_a8_q8_a8_real(int n, float *s, const void *vx, const void *vy) {
    Q8A8_KERNEL.vec_dot_real(n, s, vx, vy);
}

EXPORT void mul_mat_q8_a8(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out) {
    Q8A8_KERNEL.mul_mat(m, n, k, w, x, out);
}

EXPORT void quantize_row_q8_a8_v2(const float *x, void *y, int64_t k, enum q8a8_field field) {
    Q8A8_KERNEL.quantize_row_v2(x, y, k, field);
}

EXPORT void dequantize_row_q8_a8_v2(const void *x, float *y, int64_t k, enum q8a8_field field) {
    Q8A8_KERNEL.dequantize_row_v2(x, y, k, field);
}
