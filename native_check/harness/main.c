/* q8a8-harness: a worker of the conformance suite. It reads calls of a kernel from standard input and writes the
 * results to standard output; the suite's documentation describes the protocol. */
#include "cpu.h"
#include "crash.h"
#include "exit.h"
#include "fresh.h"
#include "ggml.h"
#include "hello.h"
#include "protocol.h"
#include "run.h"
#include "state.h"
#include "stop.h"
#include "target.h"
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: q8a8-harness KERNEL\n"
    "       q8a8-harness --lib PATH [--symbol ABI_NAME=EXPORTED_NAME]... [--init SYMBOL]\n"
    "       q8a8-harness --ggml PATH[,PATH]... [--device NAME] [--threads N] [--buffer repack] [--precision f32]\n"
    "                    [--copy cpy|rows]\n"
    "       q8a8-harness --list | --help | --version\n"
    "\n"
    "Reads calls of a Q8_A8 kernel from standard input, writes the results to standard output.\n"
    "  KERNEL           a built-in kernel; --list shows them\n"
    "  --lib PATH       a shared library that exports functions of the Q8_A8 interface\n"
    "  --symbol A=B     the library exports function A as B (repeatable)\n"
    "  --init SYMBOL    call void SYMBOL(void) once after loading\n"
    "  --ggml PATHS     a device of ggml's, by its libraries, those that others need first\n"
    "  --device NAME    one of several devices (the first)\n"
    "  --threads N      threads of a CPU device (GGML_N_THREADS, or 1)\n"
    "  --buffer B       where a product's weights lie: default, or repack\n"
    "  --precision P    what is asked of a product: default, or f32\n"
    "  --copy C         what quantizes: cpy, or rows (the first supported)\n"
    "\n"
    "exit status: 0 after quit or end of input; 2 for a command line or stream that cannot be served;\n"
    "77 when this CPU lacks what the kernel needs; a crash of the kernel is a crash of the harness.\n";

struct arguments {
    const char *kernel, *library, *init;
    struct symbol symbols[ABI_FUNCTIONS];
    struct ggml_options ggml;
};

/* The requested text was printed. */
static _Noreturn void finish(void) {
    exit(fflush(stdout) == 0 ? 0 : EXIT_USAGE);
}

static _Noreturn void list_kernels(void) {
    for (const struct kernel_row *row = kernel_rows; row->name != NULL; ++row) {
        char missing[100];
        if (row->kernel == NULL) {
            printf("%-11s needs the CPU architecture %s\n", row->name, row->processor);
        } else if (!target_runs_here(row->kernel, missing, sizeof missing)) {
            printf("%-11s needs the CPU feature %s\n", row->name, missing);
        } else {
            printf("%-11s runs here\n", row->name);
        }
    }
    finish();
}

/* Adds "ABI_NAME=EXPORTED_NAME" to the map, which keeps the pointer. */
static void add_symbol(struct symbol symbols[ABI_FUNCTIONS], char *text) {
    char *equals = strchr(text, '=');
    if (equals == NULL || equals[1] == '\0') {
        fail("--symbol: expected ABI_NAME=EXPORTED_NAME, got %s", text);
    }
    *equals = '\0';
    const int number = abi_find(text);
    if (number < 0) {
        fail("--symbol: the interface has no function %s", text);
    }
    symbols[number].exported = equals + 1;
}

static struct arguments parse_arguments(int argc, char **argv) {
    static const struct option long_options[] = {
        {"lib", required_argument, NULL, 'l'},  {"symbol", required_argument, NULL, 's'},
        {"init", required_argument, NULL, 'i'}, {"list", no_argument, NULL, 'L'},
        {"help", no_argument, NULL, 'h'},       {"version", no_argument, NULL, 'V'},
        {"ggml", required_argument, NULL, 'g'}, {"device", required_argument, NULL, 'd'},
        {"threads", required_argument, NULL, 't'}, {"buffer", required_argument, NULL, 'b'},
        {"precision", required_argument, NULL, 'p'}, {"copy", required_argument, NULL, 'c'},
        {NULL, 0, NULL, 0},
    };
    struct arguments arguments = {0};
    struct ggml_options *ggml = &arguments.ggml;
    bool library_options = false, device_options = false;
    int option;

    opterr = 0;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        switch (option) {
        case 'l':
            arguments.library = optarg;
            break;
        case 's':
            add_symbol(arguments.symbols, optarg);
            library_options = true;
            break;
        case 'i':
            arguments.init = optarg;
            library_options = true;
            break;
        case 'g':
            ggml->paths = optarg;
            break;
        case 'd':
        case 't':
        case 'b':
        case 'p':
        case 'c':
            *(option == 'd'   ? &ggml->device
              : option == 't' ? &ggml->threads
              : option == 'b' ? &ggml->buffer
              : option == 'p' ? &ggml->precision
                              : &ggml->copy) = optarg;
            device_options = true;
            break;
        case 'L':
            list_kernels();
        case 'h':
            fputs(usage, stdout);
            finish();
        case 'V':
            puts("q8a8-harness " Q8A8_VERSION);
            finish();
        default:
            fail("invalid argument %s (see --help)", argv[optind - 1]);
        }
    }
    if (optind < argc) {
        arguments.kernel = argv[optind++];
    }
    if (optind < argc || (arguments.kernel != NULL) + (arguments.library != NULL) + (ggml->paths != NULL) != 1) {
        fail("expected one KERNEL, --lib PATH or --ggml PATH (see --help)");
    }
    if (library_options && arguments.library == NULL) {
        fail("--symbol and --init need --lib");
    }
    if (device_options && ggml->paths == NULL) {
        fail("--device, --threads, --buffer, --precision and --copy need --ggml");
    }
    return arguments;
}

/* Reserves standard input and output for the protocol: a library's output goes to a file in memory, and its input is
 * empty. */
static void take_streams(int *input, int *output) {
    const int empty = open("/dev/null", O_RDONLY);
    *input = dup(STDIN_FILENO);
    *output = dup(STDOUT_FILENO);
    if (empty < 0 || *input < 0 || *output < 0 || dup2(empty, STDIN_FILENO) < 0) {
        fail("cannot set up the streams: %s", strerror(errno));
    }
    close(empty);
    state_take_output();
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is reported as a failed write */
}

static struct target load(const struct arguments *arguments) {
    if (arguments->ggml.paths != NULL) {
        return target_ggml(&arguments->ggml);
    }
    return arguments->library != NULL ? target_library(arguments->library, arguments->symbols, arguments->init)
                                      : target_builtin(arguments->kernel);
}

static void answer(const struct target *target, const struct bytes *request, struct bytes *reply) {
    struct call call;
    const char *refusal = protocol_parse_call(request, &call);
    reply->length = 0;
    if (refusal == NULL) {
        refusal = run_call(target, &call, reply);
    }
    if (refusal != NULL) {
        reply->length = 0;
        bytes_put_u8(reply, 'E');
        bytes_put_u32(reply, call.id);
        bytes_put_text(reply, refusal);
    }
}

int main(int argc, char **argv) {
    const struct arguments arguments = parse_arguments(argc, argv);
    static struct bytes request, reply;
    int input, output;

    take_streams(&input, &output);
    crash_install();
    stop_install();
    fresh_install();
    const struct target target = load(&arguments);
    state_copy_output();
    crash_context("q8a8-harness");
    watch_install();
    hello_put(&reply, &target);
    protocol_write(output, &reply);
    while (protocol_read(input, &request)) {
        switch (request.data[0]) {
        case 'C':
            answer(&target, &request, &reply);
            state_copy_output();
            protocol_write(output, &reply);
            break;
        case 'Q':
            return 0;
        default:
            fail("broken stream: a frame of kind 0x%02x", (unsigned)request.data[0]);
        }
    }
    return 0;
}
