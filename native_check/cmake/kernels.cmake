# q8a8_kernel(NAME PROCESSOR [FLAG...]): build kernels/NAME.c
#   into the object library kernel_NAME, for the harness and the tests, and
#   into lib/libq8a8-NAME.so, which exports the functions of q8a8.h.
# PROCESSOR is "any" or a CMAKE_SYSTEM_PROCESSOR; on another one nothing is built, but the harness's
# table of kernels still has the name and its requirements.

# Results depend on this flag: without it compilers may fuse a multiplication and an addition.
set(q8a8_kernel_flags -ffp-contract=off)

set(Q8A8_KERNELS "")        # the names built
set(Q8A8_KERNEL_EXTERNS "") # C text of the table, see harness/table.c.in
set(Q8A8_KERNEL_ROWS "")

# The product by lanes, which every kernel plugs its tile into: in the harness, the tests and every library.
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
add_library(kernel_product OBJECT ${CMAKE_SOURCE_DIR}/kernels/product.c)
target_link_libraries(kernel_product PUBLIC q8a8_options Threads::Threads)

function(q8a8_kernel name processor)
  set(flags ${q8a8_kernel_flags} ${ARGN})
  string(REPLACE "-" "_" identifier ${name})
  if(DEFINED Q8A8_ZIG_TARGET) # zig's front end has its own spelling for extensions
    list(TRANSFORM flags REPLACE "^-march=armv8.2-a\\+" "-mcpu=generic+")
    list(TRANSFORM flags REPLACE "^-march=rv64gcv$" "-mcpu=baseline_rv64+v")
  endif()
  string(TOUPPER "${CMAKE_BUILD_TYPE}" build_type)
  string(JOIN " " shown ${CMAKE_C_FLAGS} ${CMAKE_C_FLAGS_${build_type}} ${q8a8_sanitizer_flags} ${flags})
  string(REGEX REPLACE " +" " " shown "${shown}")

  if(processor STREQUAL "any" OR processor STREQUAL CMAKE_SYSTEM_PROCESSOR)
    add_library(kernel_${name} OBJECT ${CMAKE_SOURCE_DIR}/kernels/${name}.c)
    target_compile_options(kernel_${name} PRIVATE ${flags})
    target_link_libraries(kernel_${name} PUBLIC q8a8_options)

    add_library(q8a8-${name} SHARED ${CMAKE_SOURCE_DIR}/kernels/export.c)
    target_compile_definitions(q8a8-${name} PRIVATE Q8A8_KERNEL=q8a8_kernel_${identifier})
    target_link_libraries(q8a8-${name} PRIVATE kernel_${name} kernel_product)

    set(Q8A8_KERNELS ${Q8A8_KERNELS} ${name} PARENT_SCOPE)
    set(Q8A8_KERNEL_EXTERNS "${Q8A8_KERNEL_EXTERNS}extern const struct q8a8_kernel q8a8_kernel_${identifier};\n" PARENT_SCOPE)
    set(pointer "&q8a8_kernel_${identifier}")
  else()
    set(pointer "NULL")
  endif()
  set(row "    {\"${name}\", \"${processor}\", \"${shown}\", ${pointer}},\n")
  set(Q8A8_KERNEL_ROWS "${Q8A8_KERNEL_ROWS}${row}" PARENT_SCOPE)
endfunction()

# Loops of nothing but an int8 instruction, the limit of a product's speed, for `q8a8 bench --native`.
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64" AND NOT Q8A8_SANITIZE)
  add_library(q8a8-peak SHARED ${CMAKE_SOURCE_DIR}/bench/peak.c)
  target_link_libraries(q8a8-peak PRIVATE q8a8_options)
endif()
