# Warnings, as errors, for every target; sanitizers if requested.
add_library(q8a8_options INTERFACE)
target_include_directories(q8a8_options INTERFACE ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/kernels)
target_compile_options(q8a8_options INTERFACE
  -Wall -Wextra -Wpedantic -Werror
  -Wconversion -Wsign-conversion -Wdouble-promotion -Wfloat-conversion
  -Wshadow -Wundef -Wvla -Wcast-qual -Wwrite-strings -Wpointer-arith -Wformat=2
  -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wmissing-declarations)

if(Q8A8_SANITIZE)
  set(q8a8_sanitizer_flags -fsanitize=${Q8A8_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
  if(Q8A8_SANITIZE STREQUAL "undefined") # not included in "undefined"
    list(APPEND q8a8_sanitizer_flags -fsanitize=float-cast-overflow)
  endif()
  # Without -O3, which the build type sets: what a compiler proves away no sanitizer sees, and it takes twice as long.
  target_compile_options(q8a8_options INTERFACE ${q8a8_sanitizer_flags} -O1)
  target_link_options(q8a8_options INTERFACE ${q8a8_sanitizer_flags})
endif()
