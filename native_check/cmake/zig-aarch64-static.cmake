# 64-bit Arm Linux by ziglang from PyPI, one static program that needs no library: for a phone or any board.
# It cannot load shared libraries (--lib).
set(Q8A8_ZIG_TARGET aarch64-linux-musl)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
include(${CMAKE_CURRENT_LIST_DIR}/zig.cmake)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -cpu max)
