# The CUDA kernel as C, on the CPU: every line of it is tested without a device.
if(CMAKE_CROSSCOMPILING)
  return()
endif()
set_source_files_properties(${CMAKE_SOURCE_DIR}/gpu/cuda.cu PROPERTIES LANGUAGE C)
add_library(q8a8-cuda-shim SHARED ${CMAKE_SOURCE_DIR}/gpu/cuda.cu)
target_compile_options(q8a8-cuda-shim PRIVATE ${q8a8_kernel_flags})
target_compile_definitions(q8a8-cuda-shim PRIVATE Q8A8_GPU_SHIM)
target_link_libraries(q8a8-cuda-shim PRIVATE q8a8_options)
