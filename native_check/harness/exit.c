#include "exit.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static _Noreturn void leave(int status, const char *format, va_list arguments) __attribute__((format(printf, 2, 0)));

static _Noreturn void leave(int status, const char *format, va_list arguments) {
    fputs("q8a8-harness: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(status);
}

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    leave(EXIT_USAGE, format, arguments);
}

void fail_with(int status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    leave(status, format, arguments);
}
