/* The hello message: the kernel, the machine and the worker's capabilities. */
#ifndef Q8A8_HARNESS_HELLO_H
#define Q8A8_HARNESS_HELLO_H

#include "bytes.h"
#include "target.h"

void hello_put(struct bytes *payload, const struct target *target);

#endif
