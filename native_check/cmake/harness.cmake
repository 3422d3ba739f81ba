# The harness: the worker that the suite runs kernels in.
configure_file(${CMAKE_SOURCE_DIR}/harness/table.c.in ${CMAKE_BINARY_DIR}/generated/table.c @ONLY)

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

file(GLOB harness_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/harness/*.c)
add_executable(q8a8-harness ${harness_sources} ${CMAKE_BINARY_DIR}/generated/table.c)
target_include_directories(q8a8-harness PRIVATE ${CMAKE_SOURCE_DIR}/harness)
target_compile_definitions(q8a8-harness PRIVATE _GNU_SOURCE Q8A8_VERSION="${PROJECT_VERSION}")
target_link_libraries(q8a8-harness PRIVATE q8a8_options Threads::Threads ${CMAKE_DL_LIBS})
foreach(kernel IN LISTS Q8A8_KERNELS)
  target_link_libraries(q8a8-harness PRIVATE kernel_${kernel})
endforeach()
