# 64-bit Arm Linux by ziglang from PyPI: for machines without root or without Debian.
set(Q8A8_ZIG_TARGET aarch64-linux-gnu.2.31)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
include(${CMAKE_CURRENT_LIST_DIR}/zig.cmake)
# The C library at run time; it and qemu-user are not part of ziglang.
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu max)
