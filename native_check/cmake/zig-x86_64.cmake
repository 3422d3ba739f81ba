# x86-64 Linux by ziglang from PyPI: for machines without a C compiler.
set(Q8A8_ZIG_TARGET x86_64-linux-gnu.2.31)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
include(${CMAKE_CURRENT_LIST_DIR}/zig.cmake)
