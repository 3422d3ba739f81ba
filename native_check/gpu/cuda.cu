/* The functions of q8a8.h on a CUDA device, as a shared library:
 *     nvcc -O3 -shared -Xcompiler -fPIC -Iinclude gpu/cuda.cu -o libq8a8-cuda.so
 * Compiled as C with -DQ8A8_GPU_SHIM it is libq8a8-cuda-shim.so, which runs on the CPU.
 *
 * Every call copies its buffers to the device and back, and has finished when it returns. A device that fails ends
 * the process: the functions have no way to report it. */
#include "q8a8.h"

#include <stdio.h>
#include <stdlib.h>

#if defined(Q8A8_GPU_SHIM)
#include "shim.h"
#else
#define LAUNCH(kernel, items, ...) kernel<<<(unsigned)(((items) + 127) / 128), 128>>>(__VA_ARGS__);
#endif

#include "cuda.h"
#include "kernels.h"

static void check(cudaError_t error) {
    if (error != cudaSuccess) {
        fprintf(stderr, "q8a8-cuda: %s\n", cudaGetErrorString(error));
        abort();
    }
}

static u8 *new_buffer(int64_t size) {
    void *buffer = NULL;
    check(cudaMalloc(&buffer, (size_t)(size > 0 ? size : 1)));
    return (u8 *)buffer;
}

static u8 *upload(const void *from, int64_t size) {
    u8 *buffer = new_buffer(size);
    check(cudaMemcpy(buffer, from, (size_t)size, cudaMemcpyHostToDevice));
    return buffer;
}

/* Waits for the kernel, which runs in the same stream. */
static void download(void *to, u8 *buffer, int64_t size) {
    check(cudaGetLastError());
    check(cudaMemcpy(to, buffer, (size_t)size, cudaMemcpyDeviceToHost));
    check(cudaFree(buffer));
}

#define EXPORT __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

EXPORT void quantize_row_q8_a8(const float *x, void *y, int64_t k) {
    const int64_t blocks = k / QK8_A8;
    if (blocks > 0) {
        u8 *from = upload(x, 4 * k);
        u8 *to = new_buffer(blocks * Q8A8_BLOCK_BYTES);
        LAUNCH(quantize_blocks, blocks, (const float *)(const void *)from, to, blocks)
        download(y, to, blocks * Q8A8_BLOCK_BYTES);
        check(cudaFree(from));
    }
}

EXPORT void quantize_row_q8_a8_ref(const float *x, void *y, int64_t k) {
    quantize_row_q8_a8(x, y, k);
}

EXPORT void quantize_activation_q8_a8(const float *input, int8_t *output, uint16_t *scale, int size) {
    u8 *from = upload(input, 4 * (int64_t)size);
    u8 *codes = new_buffer(size);
    u8 *half = new_buffer(2);
    LAUNCH(quantize_vector, 1, (const float *)(const void *)from, codes, half, size)
    download(output, codes, size);
    download(scale, half, 2);
    check(cudaFree(from));
}

EXPORT void dequantize_row_q8_a8(const void *x, float *y, int64_t k) {
    if (k > 0) {
        u8 *from = upload(x, k / QK8_A8 * Q8A8_BLOCK_BYTES);
        u8 *to = new_buffer(4 * k);
        LAUNCH(dequantize_blocks, k, from, (float *)(void *)to, k)
        download(y, to, 4 * k);
        check(cudaFree(from));
    }
}

/* Two rows of x, x_step bytes apart, or one, by as many of y; the results to s[0], s[1], s[bs] and s[bs + 1]. */
static void multiply(int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy, size_t by, int nrc, int bytes,
                     int y_scale, int qs) {
    const int64_t blocks = n / QK8_A8;
    const int64_t x_step = nrc == 2 ? (int64_t)bx : 0;
    const int64_t y_step = nrc == 2 ? (int64_t)by : 0;
    float found[4];
    u8 *x = upload(vx, x_step + blocks * bytes);
    u8 *y = upload(vy, y_step + blocks * bytes);
    u8 *to = new_buffer((int64_t)sizeof found);
    LAUNCH(dots, nrc * nrc, x, y, (float *)(void *)to, blocks, nrc, nrc, x_step, y_step, nrc, bytes, y_scale, qs)
    download(found, to, 4 * nrc * nrc);
    for (int i = 0; i < nrc; ++i) {
        for (int j = 0; j < nrc; ++j) {
            s[(size_t)i * bs + (size_t)j] = found[i * nrc + j];
        }
    }
    check(cudaFree(x));
    check(cudaFree(y));
}

EXPORT void ggml_vec_dot_q8_a8_q8_a8(int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy, size_t by,
                                     int nrc) {
    multiply(n, s, bs, vx, bx, vy, by, nrc == 2 ? 2 : 1, Q8A8_BLOCK_BYTES, 0, 2);
}

EXPORT void ggml_vec_dot_q8_a8_q8_a8_real(int n, float *s, const void *vx, const void *vy) {
    multiply(n, s, 0, vx, 0, vy, 0, 1, Q8A8_V2_BLOCK_BYTES, 2, 4);
}

EXPORT void mul_mat_q8_a8(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out) {
    const int64_t blocks = k / QK8_A8;
    const int64_t row = blocks * Q8A8_BLOCK_BYTES;
    if (m == 0 || n == 0) {
        return;
    }
    u8 *weights = upload(w, m * row);
    u8 *from = upload(x, 4 * n * k);
    u8 *quantized = new_buffer(n * row);
    u8 *to = new_buffer(4 * n * m);
    if (blocks > 0) {
        LAUNCH(quantize_blocks, n * blocks, (const float *)(const void *)from, quantized, n * blocks)
    }
    LAUNCH(dots, n * m, weights, quantized, (float *)(void *)to, blocks, m, n, row, row, m, Q8A8_BLOCK_BYTES, 0, 2)
    download(out, to, 4 * n * m);
    check(cudaFree(weights));
    check(cudaFree(from));
    check(cudaFree(quantized));
}

#ifdef __cplusplus
}
#endif
