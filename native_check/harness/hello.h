/* The first message: who answers, on what machine. */
#ifndef Q8A8_HARNESS_HELLO_H
#define Q8A8_HARNESS_HELLO_H

#include "bytes.h"
#include "target.h"

void hello_put(struct bytes *payload, const struct target *target);

#endif
