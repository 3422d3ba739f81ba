# The C compiler in ziglang (pip install ziglang), for Q8A8_ZIG_TARGET. The environment variable Q8A8_PYTHON
# names the Python that has it (python3 by default).
set(CMAKE_SYSTEM_NAME Linux)
if(DEFINED ENV{Q8A8_PYTHON})
  set(q8a8_python $ENV{Q8A8_PYTHON})
else()
  set(q8a8_python python3)
endif()
set(CMAKE_C_COMPILER ${q8a8_python} -m ziglang cc -target ${Q8A8_ZIG_TARGET})
