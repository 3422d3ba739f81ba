# The C tests: one program each, run by ctest; under QEMU on one CPU for each level of Arm.
foreach(name half scalar kernels)
  add_executable(test_${name} ${CMAKE_SOURCE_DIR}/tests/test_${name}.c)
  target_link_libraries(test_${name} PRIVATE ${q8a8_objects} m)
  # the expected values must be rounded as written
  target_compile_options(test_${name} PRIVATE -ffp-contract=off)
endforeach()

if(CMAKE_CROSSCOMPILING AND CMAKE_SYSTEM_PROCESSOR STREQUAL "aarch64")
  # Each kernel on the plainest CPU that can run it: an emulator does the same with an instruction on any. Sanitizers
  # take their time: all on the largest.
  set(cpus "cortex-a72 scalar neon" "neoverse-n1 --only dotprod" "max --only i8mm sve sve-i8mm")
  set(plain cortex-a72)
  if(Q8A8_SANITIZE)
    set(cpus "max scalar neon dotprod i8mm sve sve-i8mm")
    set(plain max)
  endif()
  foreach(line IN LISTS cpus)
    string(REPLACE " " ";" kernels ${line})
    list(POP_FRONT kernels cpu)
    set(emulator ${CMAKE_CROSSCOMPILING_EMULATOR})
    list(TRANSFORM emulator REPLACE "^max$" ${cpu})
    add_test(NAME kernels-${cpu} COMMAND ${emulator} $<TARGET_FILE:test_kernels> ${kernels})
    set(tests kernels-${cpu})
    if(cpu STREQUAL plain) # what is no kernel for a CPU of its own
      add_test(NAME half COMMAND ${emulator} $<TARGET_FILE:test_half>)
      add_test(NAME scalar COMMAND ${emulator} $<TARGET_FILE:test_scalar>)
      list(APPEND tests half scalar)
    endif()
    if(Q8A8_SANITIZE) # the leak check needs ptrace, which qemu-user lacks
      set_tests_properties(${tests} PROPERTIES ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
    endif()
  endforeach()
  if(NOT Q8A8_SANITIZE)
    foreach(bits 128 256 2048) # vectors of SVE; max has 512
      math(EXPR quadwords "${bits} / 128")
      set(emulator ${CMAKE_CROSSCOMPILING_EMULATOR})
      list(TRANSFORM emulator REPLACE "^max$" max,sve-max-vq=${quadwords},sve-default-vector-length=-1)
      add_test(NAME sve-${bits} COMMAND ${emulator} $<TARGET_FILE:test_kernels> --only sve sve-i8mm)
    endforeach()
  endif()
else()
  add_test(NAME half COMMAND test_half)
  add_test(NAME scalar COMMAND test_scalar)
  add_test(NAME kernels COMMAND test_kernels scalar)
  if(CMAKE_SYSTEM_PROCESSOR STREQUAL "riscv64")
    add_executable(vstart ${CMAKE_SOURCE_DIR}/tests/vstart.c) # of the emulator, not of a kernel: run by the Python tests
    target_compile_definitions(vstart PRIVATE _GNU_SOURCE)
    target_compile_options(vstart PRIVATE $<IF:$<BOOL:${Q8A8_ZIG_TARGET}>,-mcpu=baseline_rv64+v,-march=rv64gcv>)
    target_link_libraries(vstart PRIVATE q8a8_options)
    foreach(bits 128 1024)
      set(cpu rv64,v=true,vlen=${bits},vext_spec=v1.0)
      add_test(NAME rvv-${bits} COMMAND qemu-riscv64 -cpu ${cpu} $<TARGET_FILE:test_kernels> --only rvv)
    endforeach()
  endif()
endif()

# Kernels with one fault each, which the harness must detect (conformance/tests/native).
add_library(q8a8-broken SHARED ${CMAKE_SOURCE_DIR}/tests/broken.c)
target_link_libraries(q8a8-broken PRIVATE q8a8_options m)
# ggml's interface without a device behind it, and what a real one does seldom.
add_library(q8a8-fake-ggml SHARED ${CMAKE_SOURCE_DIR}/tests/fake_ggml.c)
target_link_libraries(q8a8-fake-ggml PRIVATE q8a8_options)

# Kernels that leave something behind, and a library that changes its process when it is loaded.
add_library(q8a8-stateful SHARED ${CMAKE_SOURCE_DIR}/tests/stateful.c ${CMAKE_SOURCE_DIR}/harness/fpenv.c)
target_include_directories(q8a8-stateful PRIVATE ${CMAKE_SOURCE_DIR}/harness)
target_compile_definitions(q8a8-stateful PRIVATE _GNU_SOURCE)
target_link_libraries(q8a8-stateful PRIVATE q8a8_options Threads::Threads)
