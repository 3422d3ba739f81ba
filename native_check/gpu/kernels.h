/* The GPU's part of every function: one source for OpenCL C and CUDA, included after opencl.h or cuda.h, which define
 *     KERNEL, FUNCTION      before a function that work-items run; before one that they call
 *     GLOBAL                before a pointer to the device's memory
 *     ITEM                  this work-item's number
 *     MUL, ADD              one multiplication or addition of floats, rounded to nearest, never fused
 *     FLOAT_OF, BITS_OF     a float by its bits, and back
 *     DOT4(a, b, sum)       sum plus the products of the four int8 in a and in b
 *     u8, i8, u16, u32, i32, u64, i64
 *
 * A work-item owns an output, and adds its blocks in the scalar order: no local memory, no barriers, no atomics.
 * Divisions are integer arithmetic, because OpenCL's may be wrong by 2.5 ulp. Modes that flush subnormal floats change
 * nothing: every result here is normal, but for amax / 127 and x_j * inv where both are as good as zero. */

/* A block's layout: its size, and the offsets of the scales and integers. */
enum { V1_BYTES = 34, V1_QS = 2, QK = 32 };

/* f32(h), exact (Q8A8-HLF-2, Q8A8-HLF-3). */
FUNCTION float float_of_half(u32 h) {
    const u32 sign = (h & 0x8000u) << 16;
    const u32 exponent = h >> 10 & 0x1fu;
    const u32 fraction = h & 0x3ffu;
    if (exponent == 0) {
        return FLOAT_OF(sign | BITS_OF(MUL((float)fraction, 1.0f / 16777216.0f)));
    }
    return FLOAT_OF(sign | (exponent == 0x1fu ? 0xffu : exponent + (127 - 15)) << 23 | fraction << 13);
}

/* value / 2^shift to nearest, ties to even; 1 <= shift <= 63. */
FUNCTION u64 shift_to_even(u64 value, u32 shift) {
    const u64 whole = value >> shift;
    const u64 rest = value & (((u64)1 << shift) - 1);
    const u64 middle = (u64)1 << (shift - 1);
    return whole + (rest > middle || (rest == middle && (whole & 1u)) ? 1u : 0u);
}

/* f16 of a positive float by its bits (Q8A8-HLF-1, 2, 4); what is no finite half is outside the domain. */
FUNCTION u32 half_of_float(u32 bits) {
    if (bits >= 0x477ff000u) {
        return 0x7c00u;
    }
    if (bits >= 0x38800000u) {
        return (u32)shift_to_even(bits - ((127u - 15u) << 23), 13);
    }
    return bits < 0x33000000u ? 0 : (u32)shift_to_even((bits & 0x7fffffu) | 0x800000u, 126 - (bits >> 23));
}

/* The bits of f32(a / b) of positive normal floats by their bits, whose quotient is normal. */
FUNCTION u32 divide(u32 a, u32 b) {
    const u64 dividend = (u64)((a & 0x7fffffu) | 0x800000u) << 32;
    const u64 divisor = (b & 0x7fffffu) | 0x800000u;
    /* 2^31 < quotient < 2^33; its last bit says whether something is left over, which no tie then is */
    const u64 quotient = dividend / divisor | (dividend % divisor != 0 ? 1u : 0u);
    const u32 above = quotient >> 32 != 0 ? 1 : 0;
    const u32 exponent = (a >> 23) - (b >> 23) + 126 + above;
    return ((exponent - 1) << 23) + (u32)shift_to_even(quotient, 8 + above); /* the hidden bit, or a carry, adds one */
}

/* Quantize count floats under one scale, which is returned (Q8A8-QNT-1 to Q8A8-QNT-6). */
FUNCTION u32 quantize(GLOBAL const float *x, GLOBAL i8 *q, i64 count) {
    u32 amax = 0; /* magnitudes order as integers */
    for (i64 j = 0; j < count; ++j) {
        const u32 magnitude = BITS_OF(x[j]) & 0x7fffffffu;
        amax = magnitude > amax ? magnitude : amax;
    }
    const u32 of_127 = 0x42fe0000u;
    const bool tiny = amax < 0x34000000u; /* 2^-23: amax / 127 is below 2^-25, half of the smallest half */
    const u32 h = tiny ? 0 : half_of_float(divide(amax, of_127));
    const float inv = h != 0 ? FLOAT_OF(divide(of_127, amax)) : 0.0f;
    for (i64 j = 0; j < count; ++j) {
        const float v = MUL(x[j], inv);
        i32 whole = 0;
        if (v > -127.5f && v < 127.5f) { /* all but NaN, which is outside the domain (Q8A8-QNT-11) */
            whole = (i32)v;
            const float rest = ADD(v, -(float)whole); /* exact */
            whole += (rest >= 0.5f ? 1 : 0) - (rest <= -0.5f ? 1 : 0); /* halves away from zero (Q8A8-QNT-4) */
        }
        q[j] = (i8)whole;
    }
    return h;
}

FUNCTION u32 load_u16(GLOBAL const u8 *p) {
    return p[0] | (u32)p[1] << 8;
}

FUNCTION void store_u16(GLOBAL u8 *p, u32 value) {
    p[0] = (u8)(value & 0xffu);
    p[1] = (u8)(value >> 8);
}

/* A work-item quantizes a block of a row. */
KERNEL void quantize_blocks(GLOBAL const float *x, GLOBAL u8 *y, i64 blocks) {
    const i64 b = ITEM;
    if (b < blocks) {
        store_u16(y + b * V1_BYTES, quantize(x + b * QK, (GLOBAL i8 *)(y + b * V1_BYTES + V1_QS), QK));
    }
}

/* One work-item quantizes any number of floats under one scale (Q8A8-QNT-9). */
KERNEL void quantize_vector(GLOBAL const float *x, GLOBAL u8 *q, GLOBAL u8 *scale, i64 size) {
    if (ITEM == 0) {
        store_u16(scale, quantize(x, (GLOBAL i8 *)q, size));
    }
}

/* A work-item makes a float: y_j = f32(h) * q_j, exact (Q8A8-DEQ-1). */
KERNEL void dequantize_blocks(GLOBAL const u8 *x, GLOBAL float *y, i64 count) {
    const i64 j = ITEM;
    if (j < count) {
        GLOBAL const u8 *block = x + j / QK * V1_BYTES;
        y[j] = MUL(float_of_half(load_u16(block)), (float)(i8)block[V1_QS + j % QK]);
    }
}

/* The sum of 32 products, in integers (Q8A8-DOT-1). */
FUNCTION i32 block_sum(GLOBAL const u8 *x, GLOBAL const u8 *y) {
    i32 sum = 0;
    for (i32 j = 0; j < QK; j += 4) {
        sum = DOT4(load_u16(x + j) | load_u16(x + j + 2) << 16, load_u16(y + j) | load_u16(y + j + 2) << 16, sum);
    }
    return sum;
}

/* A work-item makes one of rows_x * rows_y dot products: s[i * s_step + j] = x_j . y_i, of rows x_step and y_step bytes
 * apart. bytes, y_scale and qs are of a block's layout; x's scale comes first. */
KERNEL void dots(GLOBAL const u8 *x, GLOBAL const u8 *y, GLOBAL float *s, i64 blocks, i64 rows_x, i64 rows_y, i64 x_step,
                 i64 y_step, i64 s_step, i32 bytes, i32 y_scale, i32 qs) {
    const i64 item = ITEM;
    if (item < rows_x * rows_y) {
        const i64 i = item / rows_x;
        const i64 j = item % rows_x;
        GLOBAL const u8 *bx = x + j * x_step;
        GLOBAL const u8 *by = y + i * y_step;
        float sum = 0.0f;
        for (i64 b = 0; b < blocks; ++b, bx += bytes, by += bytes) {
            /* sum = f32(sum + f32(f32(sumi) * f32(dx * dy))) (Q8A8-DOT-2, Q8A8-DOT-3) */
            const float d = MUL(float_of_half(load_u16(bx)), float_of_half(load_u16(by + y_scale)));
            sum = ADD(sum, MUL((float)block_sum(bx + qs, by + qs), d));
        }
        s[i * s_step + j] = sum;
    }
}
