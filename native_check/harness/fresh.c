#include "fresh.h"
#include "exit.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    FAULTS_AT = 5, DETAIL_AT = 9, OUTPUTS_AT = 13, /* in the 'R' message, without a detail */
    COPIES_AT = 12,                                /* after its outputs */
    MAX_SECONDS = 2,                               /* then no further process */
};

/* Microseconds after which the first call is stopped: initializations take from a few to many thousands. */
static const uint16_t delays_us[] = {200, 1000, 50, 5000, 20000, 0, 500, 10};

/* Of /proc/self/task, which has a link more for every thread; 0 where there is none. */
static nlink_t links(void) {
    struct stat found;
    return stat("/proc/self/task", &found) == 0 ? found.st_nlink : 0;
}

static nlink_t links_at_start;

void fresh_install(void) {
    links_at_start = links();
}

bool fresh_can_copy(void) {
    return links_at_start != 0 && links() == links_at_start;
}

static bool read_all(int fd, struct bytes *message) {
    uint8_t chunk[4096];
    for (;;) {
        const ssize_t got = read(fd, chunk, sizeof chunk);
        if (got > 0) {
            bytes_put(message, chunk, (size_t)got);
        } else if (got == 0 || errno != EINTR) {
            return got == 0;
        }
    }
}

static void write_all(int fd, const struct bytes *message) {
    size_t done = 0;
    while (done < message->length) {
        const ssize_t put = write(fd, message->data + done, message->length - done);
        if (put < 0 && errno != EINTR) {
            _exit(EXIT_USAGE);
        }
        done += put > 0 ? (size_t)put : 0;
    }
}

/* End as the child did: the kernel's crash is the harness's. */
static void end_as(int status) {
    if (WIFSIGNALED(status)) {
        signal(WTERMSIG(status), SIG_DFL);
        raise(WTERMSIG(status));
    }
    if (WEXITSTATUS(status) != 0) {
        _exit(WEXITSTATUS(status));
    }
}

/* Make the call in a child process; the message is empty after an exit of status 0 within the call. */
static const char *run_child(fresh_runner *run, const struct target *target, const struct call *call, uint64_t delay,
                             struct bytes *message) {
    int ends[2], status;
    if (pipe(ends) != 0) {
        return "cannot open a pipe";
    }
    const pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        const char *refusal = run(target, call, delay, message);
        if (refusal != NULL) {
            message->length = 0;
            bytes_put_u8(message, 'E');
        }
        write_all(ends[1], message);
        _exit(0);
    }
    close(ends[1]);
    const bool complete = child > 0 && read_all(ends[0], message);
    close(ends[0]);
    if (child < 0 || !complete || waitpid(child, &status, 0) != child) {
        return "cannot copy the process";
    }
    end_as(status);
    if (message->length == 0) {
        _exit(0); /* the kernel has ended it in its call */
    }
    return message->data[0] == 'E' ? "the call cannot be made in a copy of the process" : NULL;
}

static size_t detail_length(const struct bytes *message) {
    struct cursor cursor = {message->data + DETAIL_AT, 4, false};
    return cursor_u32(&cursor);
}

/* The length of the call's outputs in the message; the time, the stops and the number of copies follow. */
static size_t outputs_length(const struct call *call) {
    size_t length = 1;
    for (size_t i = 0; i < abi_functions[call->number].buffer_count; ++i) {
        length += abi_functions[call->number].buffers[i].output ? 4 + call->buffers[i].length : 0;
    }
    return length;
}

/* Whether two messages of the same call, without details, have the same outputs. */
static bool same_outputs(const struct bytes *left, const struct bytes *right, const struct call *call) {
    const size_t length = outputs_length(call);
    const size_t rest = OUTPUTS_AT + length + COPIES_AT + 1;
    return left->length == right->length && memcmp(left->data + OUTPUTS_AT, right->data + OUTPUTS_AT, length) == 0 &&
           memcmp(left->data + rest, right->data + rest, left->length - rest) == 0;
}

static bool is_zero(const uint8_t *bytes) {
    return (bytes[0] | bytes[1] | bytes[2] | bytes[3]) == 0;
}

const char *fresh_run(fresh_runner *run, const struct target *target, const struct call *call, struct bytes *reply) {
    static struct bytes message;
    if (!fresh_can_copy()) {
        return run(target, call, (uint64_t)delays_us[0] * 1000, reply);
    }
    const time_t start = time(NULL);
    unsigned copies = 0;
    for (unsigned i = 0; i < call->fresh && (i == 0 || time(NULL) - start < MAX_SECONDS); ++i) {
        message.length = 0;
        const uint64_t delay = (uint64_t)delays_us[i % (sizeof delays_us / sizeof *delays_us)] * 1000;
        const char *refusal = run_child(run, target, call, delay, &message);
        if (refusal != NULL) {
            return refusal;
        }
        ++copies;
        if (reply->length == 0) {
            bytes_put(reply, message.data, message.length);
        }
        const bool quiet = is_zero(message.data + FAULTS_AT) && detail_length(&message) == 0;
        if (!quiet || !same_outputs(reply, &message, call)) {
            reply->length = 0;
            bytes_put(reply, message.data, message.length);
            reply->data[FAULTS_AT] |= !quiet ? 0 : call->threads > 1 ? FAULT_THREAD_RESULT_VARIES : FAULT_RESULT_VARIES;
            break;
        }
    }
    reply->data[OUTPUTS_AT + detail_length(reply) + outputs_length(call) + COPIES_AT] = (uint8_t)copies;
    return NULL;
}
