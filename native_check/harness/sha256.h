/* SHA-256 of a file (FIPS 180-4), which identifies the kernel under test. */
#ifndef Q8A8_HARNESS_SHA256_H
#define Q8A8_HARNESS_SHA256_H

#include <stdbool.h>

/* Write 64 hexadecimal digits and a final zero to `hex`; false if the file cannot be read. */
bool sha256_file(const char *path, char hex[65]);

#endif
