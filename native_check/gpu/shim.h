/* CUDA on the CPU, as far as cuda.cu uses it: kernels run one work-item after the other, device memory is the heap.
 * So every line of them is compiled by the host's compiler with all warnings, tested, and run by sanitizers. */
#ifndef Q8A8_GPU_SHIM_H
#define Q8A8_GPU_SHIM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define __global__
#define __device__

/* Of the work-item that runs in this thread. */
struct q8a8_index {
    unsigned x;
};
static _Thread_local struct q8a8_index blockIdx, threadIdx;
static const struct q8a8_index blockDim = {128}; /* as on the device */

#define LAUNCH(kernel, items, ...)                                                                                     \
    for (int64_t item = 0; item < ((items) + 127) / 128 * 128; ++item) {                                                \
        blockIdx.x = (unsigned)(item / blockDim.x);                                                                    \
        threadIdx.x = (unsigned)(item % blockDim.x);                                                                   \
        kernel(__VA_ARGS__);                                                                                           \
    }

/* Compiled with -ffp-contract=off. */
static inline float __fmul_rn(float a, float b) {
    return a * b;
}

static inline float __fadd_rn(float a, float b) {
    return a + b;
}

static inline float __uint_as_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t __float_as_uint(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline int __dp4a(int a, int b, int sum) {
    for (int shift = 0; shift < 32; shift += 8) {
        sum += (int8_t)((uint32_t)a >> shift & 0xff) * (int8_t)((uint32_t)b >> shift & 0xff);
    }
    return sum;
}

typedef int cudaError_t;
enum { cudaSuccess = 0, cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };

static inline cudaError_t cudaMalloc(void **memory, size_t size) {
    *memory = malloc(size);
    return *memory != NULL ? cudaSuccess : 1;
}

static inline cudaError_t cudaFree(void *memory) {
    free(memory);
    return cudaSuccess;
}

static inline cudaError_t cudaMemcpy(void *to, const void *from, size_t size, int direction) {
    (void)direction;
    memcpy(to, from, size);
    return cudaSuccess;
}

static inline cudaError_t cudaDeviceSynchronize(void) {
    return cudaSuccess;
}

static inline const char *cudaGetErrorString(cudaError_t error) {
    return error == cudaSuccess ? "no error" : "no memory";
}

static inline cudaError_t cudaGetLastError(void) {
    return cudaSuccess;
}

#endif
