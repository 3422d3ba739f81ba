#include "crash.h"
#include "abi.h"
#include "exit.h"
#include "protocol.h"
#include "stop.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_WATCHED = (MAX_THREADS + 1) * ABI_MAX_BUFFERS };

static const struct {
    int number;
    const char *name;
} signals[] = {
    {SIGSEGV, "SIGSEGV"}, {SIGBUS, "SIGBUS"}, {SIGILL, "SIGILL"}, {SIGFPE, "SIGFPE"}, {SIGTRAP, "SIGTRAP"},
};

static const char *volatile context = "q8a8-harness";
static const struct region *volatile watched[MAX_WATCHED];
static volatile size_t watched_count;

/* Only async-signal-safe functions such as write may be called here, so the line is formatted by hand. */
struct line {
    char text[300];
    size_t length;
};

static void put(struct line *line, const char *text) {
    for (; *text != '\0' && line->length < sizeof line->text; ++text) {
        line->text[line->length++] = *text;
    }
}

static void put_number(struct line *line, uint64_t value, unsigned base) {
    char digits[21];
    size_t at = sizeof digits - 1;
    digits[at] = '\0';
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    put(line, digits + at);
}

static const struct region *region_of(uintptr_t address) {
    for (size_t i = 0; i < watched_count; ++i) {
        const struct region *region = watched[i];
        const uintptr_t data = (uintptr_t)region->data;
        if (address >= data - region->page && address < data + region->data_size + region->page) {
            return region;
        }
    }
    return NULL;
}

static void put_place(struct line *line, uintptr_t address) {
    const struct region *region = region_of(address);
    if (region == NULL) {
        put(line, "address 0x");
        put_number(line, address, 16);
        put(line, " (in no buffer)");
        return;
    }
    const uintptr_t start = (uintptr_t)region->start;
    put(line, region->name);
    put(line, address < start ? " - " : " + ");
    put_number(line, address < start ? start - address : address - start, 10);
    put(line, " (length ");
    put_number(line, region->length, 10);
    const uintptr_t data = (uintptr_t)region->data;
    const bool inside = address >= data && address < data + region->data_size;
    put(line, inside && region->readonly ? ", read-only)" : ")");
}

/* Returns in the first thread that crashes; the others wait until it ends the process, so that the line is written
 * first. A crash within the report ends the process at once. */
static void report_once(int number) {
    static _Atomic long reporter;
    const long self = syscall(SYS_gettid);
    long none = 0;
    if (atomic_compare_exchange_strong(&reporter, &none, self)) {
        return;
    }
    while (none != self) {
        pause();
    }
    signal(number, SIG_DFL);
    raise(number);
}

static void on_signal(int number, siginfo_t *info, void *unused) {
    (void)unused;
    if (number == SIGSEGV && stop_at_fault((uintptr_t)info->si_addr)) {
        return;
    }
    report_once(number);
    struct line line = {.length = 0};
    put(&line, "fault: ");
    for (size_t i = 0; i < sizeof signals / sizeof *signals; ++i) {
        if (signals[i].number == number) {
            put(&line, signals[i].name);
        }
    }
    put(&line, " at ");
    put_place(&line, (uintptr_t)info->si_addr);
    put(&line, " in ");
    put(&line, context);
    put(&line, "\n");
    if (write(STDERR_FILENO, line.text, line.length) < 0) {
        /* cannot be reported here */
    }
    signal(number, SIG_DFL);
    raise(number);
}

void crash_install(void) {
    /* An alternate stack, so that a stack overflow is reported too. */
    static uint8_t stack[1 << 16];
    const stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
    const struct rlimit no_core = {0, 0};
    struct sigaction action;

    if (sigaltstack(&alternative, NULL) != 0) {
        fail("sigaltstack: %s", strerror(errno));
    }
    (void)setrlimit(RLIMIT_CORE, &no_core);
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_signal;
    action.sa_flags = (int)(SA_SIGINFO | SA_ONSTACK | SA_NODEFER);
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; ++i) {
        if (sigaction(signals[i].number, &action, NULL) != 0) {
            fail("sigaction: %s", strerror(errno));
        }
    }
}

void crash_context(const char *what) {
    watched_count = 0;
    context = what;
}

void crash_watch(const struct region *region) {
    if (watched_count < MAX_WATCHED) {
        watched[watched_count] = region;
        watched_count = watched_count + 1;
    }
}
