/* The C interface of every Q8_A8 kernel, and the two block layouts.
 *
 *   block_q8_a8 (34 bytes)                       block_q8_a8_v2 (36 bytes)
 *   0        2                        34         0        2            4                  36
 *   +--------+------------------------+          +--------+------------+------------------+
 *   | weight | weight_qs, 32 int8     |          | weight | activation | weight_qs,       |
 *   | _scale |                        |          | _scale | _scale     | 32 int8          |
 *   +--------+------------------------+          +--------+------------+------------------+
 *
 * Scales are IEEE binary16, little-endian; there is no padding (Q8A8-LAY-1, Q8A8-LAY-3).
 * Blocks and the scale are 2-byte aligned, floats 4-byte, the int8 output 1-byte (Q8A8-MEM-4).
 */
#ifndef Q8A8_H
#define Q8A8_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    QK8_A8 = 32,           /* elements of a block */
    Q8A8_BLOCK_BYTES = 34, /* sizeof(block_q8_a8) */
    Q8A8_V2_BLOCK_BYTES = 36
};

/* The scale field in use of a 36-byte block; the other one is +0 (Q8A8-LAY-4). */
enum q8a8_field { Q8A8_WEIGHT_SCALE = 0, Q8A8_ACTIVATION_SCALE = 1 };

/* The functions of the interface. k, and n of a row: elements, a multiple of 32; size: any >= 0. */

/* x[k] -> y[k/32] blocks. The two give the same bytes (Q8A8-QNT-8). */
void quantize_row_q8_a8_ref(const float *x, void *y, int64_t k);
void quantize_row_q8_a8(const float *x, void *y, int64_t k);

/* x[k/32] blocks -> y[k]. */
void dequantize_row_q8_a8(const void *x, float *y, int64_t k);

/* input[size] -> output[size] and one scale, the bits of a binary16 (Q8A8-QNT-9). */
void quantize_activation_q8_a8(const float *input, int8_t *output, uint16_t *scale, int size);

/* nrc = 1: s[0] = x . y. nrc = 2: s[0] = x0.y0, s[1] = x1.y0, s[bs] = x0.y1, s[bs+1] = x1.y1,
 * the rows bx and by bytes apart, bs in floats (Q8A8-DOT-6). */
void ggml_vec_dot_q8_a8_q8_a8(int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy, size_t by, int nrc);

/* s[0] = x . y over 36-byte blocks: x's weight_scale, y's activation_scale (Q8A8-DOT-9). */
void ggml_vec_dot_q8_a8_q8_a8_real(int n, float *s, const void *vx, const void *vy);

/* out[i * m + j] = w_j . quantized x_i: w has m rows of k/32 blocks, x n rows of k floats; m, n, k >= 0
 * (Q8A8-MUL-4 to Q8A8-MUL-9). */
void mul_mat_q8_a8(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out);

/* Not in the interface: the same product with weights that are packed once, for many products. The bits of an output
 * are those of mul_mat_q8_a8, whatever n and threads are.
 *
 *     struct q8a8_packed *packed = q8a8_pack(m, k, w);       w is not needed afterwards; NULL: no memory
 *     q8a8_mul_mat_packed(packed, n, x, out, threads);       0, or -1: no memory, and out is all zeros
 *     q8a8_free(packed);                                     NULL is allowed
 *
 * Several threads may use the same packed weights at once. A product starts threads - 1 threads (1 <= threads <= 64),
 * which have ended when it returns; mul_mat_q8_a8 starts none. How weights are packed is the library's own matter. */
struct q8a8_packed;
struct q8a8_packed *q8a8_pack(int64_t m, int64_t k, const void *w);
int q8a8_mul_mat_packed(const struct q8a8_packed *packed, int64_t n, const float *x, float *out, int threads);
void q8a8_free(struct q8a8_packed *packed);

/* Not in the interface: feature i that the library needs of the CPU, as Linux names it in /proc/cpuinfo, or NULL after
 * the last. It may be called on any CPU; the other functions crash on one that lacks a feature. */
const char *q8a8_needs(int i);

/* Not in the interface: rows of 36-byte blocks, with the scale in a given field. */
void quantize_row_q8_a8_v2(const float *x, void *y, int64_t k, enum q8a8_field field);
void dequantize_row_q8_a8_v2(const void *x, float *y, int64_t k, enum q8a8_field field);

#ifdef __cplusplus
}
#endif

#endif
