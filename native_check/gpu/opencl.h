/* What kernels.h needs, in OpenCL C 1.2. */
#pragma OPENCL FP_CONTRACT OFF

#define KERNEL __kernel
#define FUNCTION static
#define GLOBAL __global
#define ITEM ((long)get_global_id(0))
#define MUL(a, b) ((a) * (b))
#define ADD(a, b) ((a) + (b))
#define FLOAT_OF(bits) as_float(bits)
#define BITS_OF(x) as_uint(x)
#define DOT4(a, b, sum) dot4(as_char4(a), as_char4(b), sum)

typedef uchar u8;
typedef char i8;
typedef ushort u16;
typedef uint u32;
typedef int i32;
typedef ulong u64;
typedef long i64;

FUNCTION int dot4(char4 a, char4 b, int sum) {
    return sum + a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
}
