/* One call of a kernel as in the protocol, with all checks. */
#ifndef Q8A8_HARNESS_RUN_H
#define Q8A8_HARNESS_RUN_H

#include "protocol.h"
#include "target.h"

/* Make the call and append the 'R' message to reply, or return the reason for a refusal. */
const char *run_call(const struct target *target, const struct call *call, struct bytes *reply);

#endif
