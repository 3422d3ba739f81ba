# The half conversions as a library for `q8a8 certify`, and a check of them on all floats (certify/).
add_library(q8a8-half SHARED ${CMAKE_SOURCE_DIR}/certify/half_rows.c)
target_link_libraries(q8a8-half PRIVATE q8a8_options)

add_executable(certify_half ${CMAKE_SOURCE_DIR}/certify/certify_half.c ${CMAKE_SOURCE_DIR}/harness/cpu.c)
target_include_directories(certify_half PRIVATE ${CMAKE_SOURCE_DIR}/harness)
target_link_libraries(certify_half PRIVATE q8a8_options)
# All 2^32 take a minute; the tests check the neighbours of every step and some patterns in between.
add_test(NAME certify-half COMMAND certify_half --every 4099)
if(CMAKE_CROSSCOMPILING AND Q8A8_SANITIZE) # as in tests.cmake
  set_tests_properties(certify-half PROPERTIES ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
endif()
