/* The fastest that an int8 instruction can be: loops of nothing else, for `q8a8 bench --native` to time.
 *
 * Each function issues its instruction on enough registers that its latency does not matter, and returns how many
 * products of two integers it has done; -1 where the CPU or the system lacks the instruction. */
#define _GNU_SOURCE /* syscall */

#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define EACH(OP) OP(0) OP(1) OP(2) OP(3) OP(4) OP(5) OP(6) OP(7) OP(8) OP(9) OP(10) OP(11)

EXPORT int64_t q8a8_peak_avx2(int64_t rounds);
EXPORT int64_t q8a8_peak_avx512_vnni(int64_t rounds);
EXPORT int64_t q8a8_peak_amx(int64_t rounds);

/* VPMADDUBSW: 32 products, not yet added to int32. */
#define MADDUBS(register) "vpmaddubsw %%ymm14, %%ymm15, %%ymm" #register "\n\t"

EXPORT int64_t q8a8_peak_avx2(int64_t rounds) {
    if (!__builtin_cpu_supports("avx2")) {
        return -1;
    }
    for (int64_t i = 0; i < rounds; ++i) {
        __asm__ volatile(EACH(MADDUBS)::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                         "xmm9", "xmm10", "xmm11");
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
        __asm__ volatile(EACH(DPBUSD)::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                         "xmm9", "xmm10", "xmm11");
    }
    return rounds * 12 * 64;
}

/* TDPBSSD on whole tiles: 16 x 16 x 64 products, added to int32. */
#define DPBSSD(tile) "tdpbssd %%tmm7, %%tmm6, %%tmm" #tile "\n\t"

EXPORT int64_t q8a8_peak_amx(int64_t rounds) {
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18, TILES = 8 };
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1};
    if (syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) != 0) {
        return -1;
    }
    for (int t = 0; t < TILES; ++t) {
        shape.rows[t] = 16;
        shape.row_bytes[t] = 64;
    }
    __asm__ volatile("ldtilecfg %0\n\t tilezero %%tmm6\n\t tilezero %%tmm7" ::"m"(shape));
    for (int64_t i = 0; i < rounds; ++i) {
        __asm__ volatile(DPBSSD(0) DPBSSD(1) DPBSSD(2) DPBSSD(3) DPBSSD(4) DPBSSD(5)::);
    }
    __asm__ volatile("tilerelease");
    return rounds * 6 * 16 * 16 * 64;
}
