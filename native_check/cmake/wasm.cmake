# A WebAssembly module for each kernel: it exports the functions of q8a8.h, and malloc and free for their buffers.
# The harness needs processes and signals; a host such as wasmtime calls the module instead.
set(CMAKE_EXECUTABLE_SUFFIX .wasm)
foreach(name scalar wasm-simd128)
  string(REPLACE "-" "_" identifier ${name})
  add_executable(q8a8-${name} kernels/${name}.c kernels/product.c kernels/export.c)
  target_compile_definitions(q8a8-${name} PRIVATE Q8A8_KERNEL=q8a8_kernel_${identifier} Q8A8_NO_THREADS)
  target_compile_options(q8a8-${name} PRIVATE -ffp-contract=off)
  target_link_options(q8a8-${name} PRIVATE -mexec-model=reactor -Wl,--export-dynamic,--export=malloc,--export=free)
  target_link_libraries(q8a8-${name} PRIVATE q8a8_options)
endforeach()
target_compile_options(q8a8-wasm-simd128 PRIVATE -msimd128)
