#include "state.h"

#include <dirent.h>
#include <fcntl.h>
#include <locale.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { THREAD_END_MS = 100 }; /* a thread that was joined may be listed so long */

static long count(const char *folder) {
    long entries = 0;
    DIR *directory = opendir(folder);
    if (directory != NULL) {
        while (readdir(directory) != NULL) {
            ++entries;
        }
        closedir(directory);
    }
    return entries;
}

/* A few descriptors more may be opened: a kernel may have used up all that there were. */
static struct rlimit allow_more(rlim_t more) {
    struct rlimit found = {0, 0};
    if (getrlimit(RLIMIT_NOFILE, &found) == 0) {
        const struct rlimit limit = {found.rlim_cur + more < found.rlim_max ? found.rlim_cur + more : found.rlim_max,
                                     found.rlim_max};
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    return found;
}

/* Constants one by one: C libraries differ in the type of the first argument. */
static void read_limits(struct rlimit limits[STATE_LIMITS]) {
    (void)getrlimit(RLIMIT_CPU, &limits[0]);
    (void)getrlimit(RLIMIT_FSIZE, &limits[1]);
    (void)getrlimit(RLIMIT_DATA, &limits[2]);
    (void)getrlimit(RLIMIT_STACK, &limits[3]);
    (void)getrlimit(RLIMIT_CORE, &limits[4]);
    (void)getrlimit(RLIMIT_AS, &limits[5]);
    (void)getrlimit(RLIMIT_NOFILE, &limits[6]);
}

void state_make_unusual(void) {
    (void)umask(027);
    (void)uselocale(duplocale(LC_GLOBAL_LOCALE));
}

void state_read(struct state *state) {
    struct stat output;
    memset(state, 0, sizeof *state);
    (void)sigprocmask(SIG_BLOCK, NULL, &state->blocked);
    for (int number = 1; number < STATE_SIGNALS; ++number) {
        struct sigaction action;
        if (sigaction(number, NULL, &action) == 0) {
            state->handlers[number] = action.sa_handler;
            state->flags[number] = action.sa_flags;
        }
    }
    const locale_t own = uselocale((locale_t)0);
    snprintf(state->locale, sizeof state->locale, "%s", setlocale(LC_ALL, NULL));
    if (own != LC_GLOBAL_LOCALE) {
        const size_t used = strlen(state->locale);
        snprintf(state->locale + used, sizeof state->locale - used, ", in this thread %p", (void *)own);
    }
    if (getcwd(state->directory, sizeof state->directory) == NULL) {
        snprintf(state->directory, sizeof state->directory, "removed");
    }
    state->umask = umask(077);
    (void)umask(state->umask);
    read_limits(state->limits);
    (void)sched_getaffinity(0, sizeof state->cpus, &state->cpus);
    (void)fflush(NULL);
    state->output = fstat(STDOUT_FILENO, &output) == 0 ? output.st_size : 0;
    const struct rlimit found = allow_more(8);
    state->threads = count("/proc/self/task");
    state->descriptors = count("/proc/self/fd");
    (void)setrlimit(RLIMIT_NOFILE, &found);
}

struct text {
    char data[200];
    size_t length;
};

static void add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct text *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (text->length < sizeof text->data) {
        text->length += (size_t)vsnprintf(text->data + text->length, sizeof text->data - text->length, format, arguments);
    }
    va_end(arguments);
}

static void add_signal(struct text *text, int number) {
    add(text, "%s%s", text->length != 0 ? ", " : "", strsignal(number));
}

static void compare_signals(const struct state *before, const struct state *after, state_note *note, void *context) {
    struct text mask = {.length = 0};
    struct text handlers = {.length = 0};
    for (int number = 1; number < STATE_SIGNALS; ++number) {
        if (sigismember(&before->blocked, number) != sigismember(&after->blocked, number)) {
            add_signal(&mask, number);
        }
        if (before->handlers[number] != after->handlers[number] || before->flags[number] != after->flags[number]) {
            add_signal(&handlers, number);
        }
    }
    if (mask.length != 0) {
        note(context, "signal-mask", mask.data);
    }
    if (handlers.length != 0) {
        note(context, "signal-handlers", handlers.data);
    }
}

static void compare_text(const char *what, const char *before, const char *after, state_note *note, void *context) {
    if (strcmp(before, after) != 0) {
        struct text text = {.length = 0};
        add(&text, "was %.60s, is %.60s", before, after);
        note(context, what, text.data);
    }
}

/* The threads that there are more. One that has ended may still be listed: wait. */
static long threads_left(const struct state *before, const struct state *after) {
    const struct timespec nap = {0, 1000000};
    long threads = after->threads;
    for (int ms = 0; threads > before->threads && ms < THREAD_END_MS; ++ms) {
        nanosleep(&nap, NULL);
        const struct rlimit found = allow_more(8);
        threads = count("/proc/self/task");
        (void)setrlimit(RLIMIT_NOFILE, &found);
    }
    return threads - before->threads;
}

void state_compare(const struct state *before, const struct state *after, state_note *note, void *context) {
    struct text text = {.length = 0};
    compare_signals(before, after, note, context);
    compare_text("locale", before->locale, after->locale, note, context);
    compare_text("working-directory", before->directory, after->directory, note, context);
    if (before->umask != after->umask) {
        add(&text, "was %03o, is %03o", (unsigned)before->umask, (unsigned)after->umask);
        note(context, "umask", text.data);
    }
    if (memcmp(before->limits, after->limits, sizeof before->limits) != 0) {
        note(context, "resource-limits", "");
    }
    if (memcmp(&before->cpus, &after->cpus, sizeof before->cpus) != 0) {
        note(context, "cpu-affinity", "");
    }
    if (after->output > before->output) {
        text.length = 0;
        add(&text, "%ld bytes were written", (long)(after->output - before->output));
        note(context, "standard-output", text.data);
    }
    const long threads = threads_left(before, after);
    if (threads > 0) {
        text.length = 0;
        add(&text, "%ld more than before", threads);
        note(context, "threads", text.data);
    }
    if (after->descriptors > before->descriptors) {
        text.length = 0;
        add(&text, "%ld more than before", after->descriptors - before->descriptors);
        note(context, "descriptors", text.data);
    }
}

/* The C library's report, which others than glibc lack. */
extern int malloc_info(int options, FILE *stream) __attribute__((weak));

/* The size in the last element that begins so: those of all arenas stand at the end. */
static size_t last_size(const char *report, const char *begin) {
    const char *last = NULL;
    for (const char *next = strstr(report, begin); next != NULL; next = strstr(next + 1, begin)) {
        last = next;
    }
    const char *size = last != NULL ? strstr(last, " size=\"") : NULL;
    return size != NULL ? (size_t)strtoull(size + 7, NULL, 10) : 0;
}

size_t state_allocated(void) {
    char *report = NULL;
    size_t length = 0, used = 0;
    FILE *stream = malloc_info != NULL ? open_memstream(&report, &length) : NULL;
    if (stream == NULL) {
        return 0;
    }
    malloc_info(0, stream);
    fclose(stream);
    if (report != NULL) {
        used = last_size(report, "<system type=\"current\"") + last_size(report, "<total type=\"mmap\"") -
               last_size(report, "<total type=\"fast\"") - last_size(report, "<total type=\"rest\"");
    }
    free(report);
    return used;
}

size_t state_mapped(void) {
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file != NULL) {
        if (fscanf(file, "%lu", &pages) != 1) {
            pages = 0;
        }
        fclose(file);
    }
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

static bool output_taken;

/* What a kernel has written before it ends the program. */
static void copy_all(void) {
    (void)fflush(NULL);
    state_copy_output();
}

void state_take_output(void) {
    const int file = memfd_create("standard output", 0);
    if (file < 0) {
        (void)dup2(STDERR_FILENO, STDOUT_FILENO);
        return;
    }
    (void)dup2(file, STDOUT_FILENO);
    close(file);
    output_taken = true;
    (void)atexit(copy_all);
}

void state_copy_output(void) {
    static off_t copied;
    char part[4096];
    ssize_t length;
    while (output_taken && (length = pread(STDOUT_FILENO, part, sizeof part, copied)) > 0) {
        if (write(STDERR_FILENO, part, (size_t)length) < 0) {
            return; /* nobody reads it */
        }
        copied += length;
    }
}

void state_limit_descriptors(int more) {
    static rlim_t usual;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return;
    }
    if (more >= 0) {
        const rlim_t wanted = (rlim_t)(count("/proc/self/fd") + more);
        usual = limit.rlim_cur;
        limit.rlim_cur = wanted < limit.rlim_cur ? wanted : limit.rlim_cur;
    } else {
        limit.rlim_cur = usual;
    }
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}
