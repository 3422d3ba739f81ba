/* Exit statuses, and the function that exits with an error. */
#ifndef Q8A8_HARNESS_EXIT_H
#define Q8A8_HARNESS_EXIT_H

enum {
    EXIT_USAGE = 2,        /* a command line that cannot be served, or a broken stream */
    EXIT_UNSUPPORTED = 77, /* this CPU lacks what the kernel needs */
};

/* Print "q8a8-harness: " and the message on standard error, and exit. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void fail_with(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
