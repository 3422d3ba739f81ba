# WebAssembly with WASI by ziglang from PyPI: a module for each kernel, which a host calls (cmake/wasm.cmake).
set(Q8A8_ZIG_TARGET wasm32-wasi)
set(CMAKE_SYSTEM_PROCESSOR wasm32)
include(${CMAKE_CURRENT_LIST_DIR}/zig.cmake)
set(CMAKE_SYSTEM_NAME Generic)
