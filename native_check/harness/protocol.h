/* The worker protocol: frames on two file descriptors, and the messages in them.
 *
 *   frame    u32 length, payload[length]     length is 1 .. 2^28; integers are little-endian
 *   payload  u8 kind, body
 *   'H' hello, once at the start (JSON)      'C' call      'R' result      'E' refusal      'Q' quit
 */
#ifndef Q8A8_HARNESS_PROTOCOL_H
#define Q8A8_HARNESS_PROTOCOL_H

#include "abi.h"
#include "bytes.h"

enum { PROTOCOL_VERSION = 1, MAX_FRAME = 1 << 28, MAX_THREADS = 16, MAX_OFFSET = 1 << 16 };

enum {
    OPTION_GUARD_AFTER = 1,
    OPTION_GUARD_BEFORE = 2,
    OPTION_READONLY = 4,
    OPTION_FLUSH = 8,
    OPTION_SHARED_INPUTS = 16,
    OPTION_STATE = 32,
    OPTION_ROWS = 64,
    OPTION_OWN_THREAD = 256,
};

enum {
    FAULT_INPUT_WRITTEN = 1,
    FAULT_WROTE_OUTSIDE = 2,
    FAULT_ROUNDING_MODE_CHANGED = 4,
    FAULT_FLUSH_MODE_CHANGED = 8,
    FAULT_RESULT_VARIES = 16,
    FAULT_THREAD_RESULT_VARIES = 32,
    FAULT_TRAP_MASK_CHANGED = 64,
    FAULT_CONVENTION_BROKEN = 128,
    FAULT_PROCESS_CHANGED = 256,
    FAULT_RESOURCES_KEPT = 512,
    FAULT_OUTPUT_OR_THREAD = 1024,
    FAULT_STACK_EXCEEDED = 2048,
};

struct call_buffer {
    const uint8_t *bytes; /* the contents before the call, within the frame */
    uint32_t length, offset;
};

/* After its buffers a call may have an extension (the capability "overlap"): the fields from `extended` on. */
struct call {
    uint32_t id;
    unsigned number; /* of the function, in abi_functions */
    unsigned options, threads;
    uint32_t repeat;
    struct abi_integers integers;
    struct call_buffer buffers[ABI_MAX_BUFFERS];
    bool extended;
    unsigned milliseconds;    /* least time of the threads' calls */
    unsigned fresh;           /* processes in which the call is the first one; 0: this process, not the first */
    const struct call *other; /* of the odd-numbered threads, or NULL */
};

/* Read one frame's payload. False at the end of input; a broken stream ends the program (status 2). */
bool protocol_read(int fd, struct bytes *payload);

/* Write one frame. A closed pipe ends the program (status 2). */
void protocol_write(int fd, const struct bytes *payload);

/* Decode the payload of a 'C' frame. Returns NULL or the reason for a refusal; call->id is set in both cases. */
const char *protocol_parse_call(const struct bytes *payload, struct call *call);

#endif
