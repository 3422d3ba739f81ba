# 64-bit Arm Linux by Debian's cross compiler (gcc-aarch64-linux-gnu); programs run under qemu-user.
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(Q8A8_GNU_TARGET aarch64-linux-gnu)
include(${CMAKE_CURRENT_LIST_DIR}/debian.cmake)
list(APPEND CMAKE_CROSSCOMPILING_EMULATOR -cpu max)
