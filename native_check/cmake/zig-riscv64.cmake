# RISC-V Linux by ziglang from PyPI (Debian 12's GCC has no intrinsics for vectors), one static program.
set(Q8A8_ZIG_TARGET riscv64-linux-musl)
set(CMAKE_SYSTEM_PROCESSOR riscv64)
include(${CMAKE_CURRENT_LIST_DIR}/zig.cmake)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-riscv64 -cpu rv64,v=true,vlen=256,vext_spec=v1.0)
