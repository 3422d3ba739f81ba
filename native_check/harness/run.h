/* One call of a kernel, as the protocol asks for it, and what was seen around it. */
#ifndef Q8A8_HARNESS_RUN_H
#define Q8A8_HARNESS_RUN_H

#include "protocol.h"
#include "target.h"

/* Make the call and append the 'R' message to reply; or return why it cannot be made. */
const char *run_call(const struct target *target, const struct call *call, struct bytes *reply);

#endif
