/* A call that is the first one of a process, several times: each is made in a child process of its own, which is
 * stopped at another moment. */
#ifndef Q8A8_HARNESS_FRESH_H
#define Q8A8_HARNESS_FRESH_H

#include "protocol.h"
#include "target.h"

/* Count this process's threads: a process with more of them cannot be copied later. */
void fresh_install(void);

/* Whether the process has no thread but those that it began with: a copy of it lacks none. */
bool fresh_can_copy(void);

/* Makes a call whose first one stops after a delay, and appends the 'R' message; see run.h. */
typedef const char *fresh_runner(const struct target *target, const struct call *call, uint64_t delay_ns,
                                 struct bytes *reply);

/* Make the call in `call->fresh` processes and append the message of one: of the first in which something is wrong. */
const char *fresh_run(fresh_runner *run, const struct target *target, const struct call *call, struct bytes *reply);

#endif
