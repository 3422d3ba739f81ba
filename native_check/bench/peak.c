/* The limits of a product, as loops for `q8a8 bench --native` to time: the int8 instruction alone (peak), and all that the
 * specification wants of a block of 32 elements (limit): the instructions that make its sums, a conversion, two
 * multiplications and an addition, on registers alone.
 *
 * The instructions go to enough registers that their latency does not matter. Each function returns how many products of
 * two integers it has done; -1 where the CPU or the system lacks the instruction. */
#define _GNU_SOURCE /* syscall */

#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define XMM                                                                                                            \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13"
#define EACH(OP) OP(0) OP(1) OP(2) OP(3) OP(4) OP(5) OP(6) OP(7) OP(8) OP(9) OP(10) OP(11)

EXPORT int64_t q8a8_peak_avx2(int64_t rounds);
EXPORT int64_t q8a8_peak_avx512_vnni(int64_t rounds);
EXPORT int64_t q8a8_peak_amx(int64_t rounds);
EXPORT int64_t q8a8_limit_avx2(int64_t rounds);
EXPORT int64_t q8a8_limit_avx512_vnni(int64_t rounds);
EXPORT int64_t q8a8_limit_amx(int64_t rounds);

/* VPMADDUBSW: 32 products, not yet added to int32. */
#define MADDUBS(register) "vpmaddubsw %%ymm14, %%ymm15, %%ymm" #register "\n\t"

EXPORT int64_t q8a8_peak_avx2(int64_t rounds) {
    if (!__builtin_cpu_supports("avx2")) {
        return -1;
    }
    for (int64_t i = 0; i < rounds; ++i) {
        __asm__ volatile(EACH(MADDUBS)::: XMM);
    }
    return rounds * 12 * 32;
}

/* VPDPBUSD: 64 products, added to int32. */
#define DPBUSD(register) "vpdpbusd %%zmm14, %%zmm15, %%zmm" #register "\n\t"

EXPORT int64_t q8a8_peak_avx512_vnni(int64_t rounds) {
    if (!__builtin_cpu_supports("avx512vnni")) {
        return -1;
    }
    for (int64_t i = 0; i < rounds; ++i) {
        __asm__ volatile(EACH(DPBUSD)::: XMM);
    }
    return rounds * 12 * 64;
}

/* TDPBSSD on whole tiles: 16 x 16 x 64 products, added to int32. */
#define DPBSSD(tile) "tdpbssd %%tmm7, %%tmm6, %%tmm" #tile "\n\t"

/* Whether tiles may be used; all are configured, those of x and w with `depth` bytes of a row. */
static int configure_tiles(uint16_t depth) {
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18, TILES = 8 };
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1};
    if (syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) != 0) {
        return 0;
    }
    for (int t = 0; t < TILES; ++t) {
        shape.rows[t] = t == 7 ? (uint8_t)(depth / 4) : 16; /* tile 7 is w, four bytes of each row together */
        shape.row_bytes[t] = t == 6 ? depth : 64;
    }
    __asm__ volatile("ldtilecfg %0\n\t tilezero %%tmm6\n\t tilezero %%tmm7" ::"m"(shape));
    return 1;
}

EXPORT int64_t q8a8_peak_amx(int64_t rounds) {
    if (!configure_tiles(64)) {
        return -1;
    }
    for (int64_t i = 0; i < rounds; ++i) {
        __asm__ volatile(DPBSSD(0) DPBSSD(1) DPBSSD(2) DPBSSD(3) DPBSSD(4) DPBSSD(5)::);
    }
    __asm__ volatile("tilerelease");
    return rounds * 6 * 16 * 16 * 64;
}

/* Of floats that happened to be there, some multiply slowly. */
#define ZERO_FACTORS __asm__ volatile("vxorps %%xmm14, %%xmm14, %%xmm14\n\t vxorps %%xmm15, %%xmm15, %%xmm15" ::)

/* A vector of outputs has eight lanes, and a block of each 32 products: 16 VPMADDWD, as many additions, and of the weights'
 * 16 VPMOVSXBW a quarter, for four rows of x share them. */
#define MADDWD(register)                                                                                               \
    "vpmaddwd %%ymm14, %%ymm15, %%ymm" #register "\n\t vpaddd %%ymm14, %%ymm15, %%ymm" #register "\n\t"
#define EIGHT(OP) OP(0) OP(1) OP(2) OP(3) OP(4) OP(5) OP(6) OP(7)
#define WIDEN "vpmovsxbw %%xmm14, %%ymm8\n\t vpmovsxbw %%xmm14, %%ymm9\n\t"

EXPORT int64_t q8a8_limit_avx2(int64_t rounds) {
    if (!__builtin_cpu_supports("avx2")) {
        return -1;
    }
    ZERO_FACTORS;
    for (int64_t i = 0; i < rounds; ++i) {
        __asm__ volatile(EIGHT(MADDWD) WIDEN EIGHT(MADDWD) WIDEN "vcvtdq2ps %%ymm14, %%ymm10\n\t"
                         "vmulps %%ymm14, %%ymm15, %%ymm11\n\t vmulps %%ymm14, %%ymm15, %%ymm12\n\t"
                         "vaddps %%ymm14, %%ymm15, %%ymm13" ::: XMM);
    }
    return rounds * 8 * 32;
}

/* Sixteen lanes: eight VPDPBUSD. */
#define SCALE_AND_ADD(source)                                                                                          \
    "vcvtdq2ps " source ", %%zmm8\n\t vmulps %%zmm14, %%zmm15, %%zmm9\n\t vmulps %%zmm14, %%zmm15, %%zmm10\n\t"            \
    "vaddps %%zmm14, %%zmm15, %%zmm11\n\t"

EXPORT int64_t q8a8_limit_avx512_vnni(int64_t rounds) {
    if (!__builtin_cpu_supports("avx512vnni")) {
        return -1;
    }
    ZERO_FACTORS;
    for (int64_t i = 0; i < rounds; ++i) {
        __asm__ volatile(EIGHT(DPBUSD) SCALE_AND_ADD("%%zmm15") ::: XMM);
    }
    return rounds * 16 * 32;
}

/* A tile of 16 x 16 outputs: a block of each operand loaded, one TDPBSSD of half its depth, the sums stored; and those of
 * before, vector by vector, scaled and added. */
EXPORT int64_t q8a8_limit_amx(int64_t rounds) {
    static uint8_t operands[1024], sums[2][1024] __attribute__((aligned(64)));
    if (!configure_tiles(32)) {
        return -1;
    }
    ZERO_FACTORS;
    for (int64_t i = 0; i < rounds; ++i) {
        __asm__ volatile("tileloadd (%0, %2, 1), %%tmm6\n\t tileloadd (%0, %2, 2), %%tmm7\n\t"
                         "tilezero %%tmm0\n\t tdpbssd %%tmm7, %%tmm6, %%tmm0\n\t tilestored %%tmm0, (%1, %2, 2)" ::"r"(
                             operands),
                         "r"(sums[i & 1]), "r"((int64_t)32)
                         : "memory");
        for (size_t row = 0; row < 16; ++row) {
            __asm__ volatile(SCALE_AND_ADD("(%0)")::"r"(sums[1 - (i & 1)] + row * 64) : "memory", XMM);
        }
    }
    __asm__ volatile("tilerelease");
    return rounds * 16 * 16 * 32;
}
