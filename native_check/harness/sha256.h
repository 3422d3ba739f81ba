/* SHA-256 of a file, to name the kernel that was judged (FIPS 180-4). */
#ifndef Q8A8_HARNESS_SHA256_H
#define Q8A8_HARNESS_SHA256_H

#include <stdbool.h>

/* 64 hexadecimal digits and a final zero into `hex`; false when the file cannot be read. */
bool sha256_file(const char *path, char hex[65]);

#endif
