# q8a8-mutants SLUG: the harness with wrong kernels in it, to test that the suite finds what is wrong with each.
# They break rules on purpose, so they are not for sanitizers.
if(Q8A8_SANITIZE)
  return()
endif()

set(mutant_sources plain.c table.c memory.c alignment.c environment.c state.c caller.c crash.c lanes.c matrices.c)
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
  list(APPEND mutant_sources x86.c)
elseif(CMAKE_SYSTEM_PROCESSOR STREQUAL "aarch64")
  list(APPEND mutant_sources arm.c)
endif()
list(TRANSFORM mutant_sources PREPEND ${CMAKE_SOURCE_DIR}/mutants/)

add_executable(q8a8-mutants ${CMAKE_SOURCE_DIR}/harness/main.c ${mutant_sources})
target_compile_options(q8a8-mutants PRIVATE ${q8a8_kernel_flags})
target_compile_definitions(q8a8-mutants PRIVATE Q8A8_MUTANT_FLAGS="-ffp-contract=off")
target_link_libraries(q8a8-mutants PRIVATE harness_parts kernel_scalar kernel_product m)
