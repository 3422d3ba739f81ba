# Big-endian: IBM Z Linux by Debian's cross compiler (gcc-s390x-linux-gnu); programs run under qemu-user.
set(CMAKE_SYSTEM_PROCESSOR s390x)
set(Q8A8_GNU_TARGET s390x-linux-gnu)
# In standard C, GCC evaluates float expressions in double here (FLT_EVAL_METHOD is 1): that rounds twice.
set(CMAKE_C_FLAGS_INIT -fexcess-precision=fast)
include(${CMAKE_CURRENT_LIST_DIR}/debian.cmake)
