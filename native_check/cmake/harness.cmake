# The harness: a worker of the suite.
configure_file(${CMAKE_SOURCE_DIR}/harness/table.c.in ${CMAKE_BINARY_DIR}/generated/table.c @ONLY)

# All of it but main.c, with the kernels, is linked by the tests too.
file(GLOB harness_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/harness/*.c)
list(REMOVE_ITEM harness_sources ${CMAKE_SOURCE_DIR}/harness/main.c)
add_library(harness_parts OBJECT ${harness_sources})
target_include_directories(harness_parts PUBLIC ${CMAKE_SOURCE_DIR}/harness)
target_compile_definitions(harness_parts PUBLIC _GNU_SOURCE Q8A8_VERSION="${PROJECT_VERSION}")
target_link_libraries(harness_parts PUBLIC q8a8_options Threads::Threads ${CMAKE_DL_LIBS})

# The table of kernels is separate: other programs have other kernels (cmake/mutants.cmake).
add_library(harness_table OBJECT ${CMAKE_BINARY_DIR}/generated/table.c)
target_link_libraries(harness_table PRIVATE harness_parts)

set(q8a8_objects harness_parts harness_table kernel_product)
foreach(kernel IN LISTS Q8A8_KERNELS)
  list(APPEND q8a8_objects kernel_${kernel})
endforeach()

add_executable(q8a8-harness ${CMAKE_SOURCE_DIR}/harness/main.c)
target_link_libraries(q8a8-harness PRIVATE ${q8a8_objects})
