# POWER Linux by Debian's cross compiler (gcc-powerpc64le-linux-gnu); programs run under qemu-user.
set(CMAKE_SYSTEM_PROCESSOR ppc64le)
set(Q8A8_GNU_TARGET powerpc64le-linux-gnu)
include(${CMAKE_CURRENT_LIST_DIR}/debian.cmake)
