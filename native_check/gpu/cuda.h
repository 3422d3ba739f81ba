/* What kernels.h needs, in CUDA C++; shim.h stands in for CUDA where there is none. */
#include <stddef.h>
#include <stdint.h>

#define KERNEL static __global__
#define FUNCTION static __device__
#define GLOBAL
#define ITEM ((int64_t)blockIdx.x * blockDim.x + threadIdx.x)
#define MUL(a, b) __fmul_rn(a, b)
#define ADD(a, b) __fadd_rn(a, b)
#define FLOAT_OF(bits) __uint_as_float(bits)
#define BITS_OF(x) __float_as_uint(x)
#define DOT4(a, b, sum) __dp4a((int)(a), (int)(b), sum)

typedef uint8_t u8;
typedef int8_t i8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef int32_t i32;
typedef uint64_t u64;
typedef int64_t i64;
