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

EXPORT struct q8a8_packed *q8a8_pack(int64_t m, int64_t k, const void *w) {
    return q8a8_product_pack(Q8A8_KERNEL.product, m, k, w);
}

EXPORT int q8a8_mul_mat_packed(const struct q8a8_packed *packed, int64_t n, const float *x, float *out, int threads) {
    return q8a8_product_mul_mat_packed(packed, n, x, out, threads);
}

EXPORT void q8a8_free(struct q8a8_packed *packed) {
    q8a8_product_free(packed);
}

EXPORT const char *q8a8_needs(int i) {
    enum { COUNT = sizeof Q8A8_KERNEL.needs / sizeof *Q8A8_KERNEL.needs };
    return i >= 0 && i < COUNT ? Q8A8_KERNEL.needs[i] : NULL;
}
