/* Version 2 dot products that leave something behind, for the tests of the workers. The result is always 1. */
#include "fpenv.h"

#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define PARAMETERS int n, float *s, const void *vx, const void *vy
#define DOT(name) __attribute__((visibility("default"))) void name(PARAMETERS)

DOT(dot_fine);

DOT(dot_fine) {
    (void)n;
    (void)vx;
    (void)vy;
    s[0] = 1.0f;
}

#define LEAVES(name, ...)                                                                                              \
    DOT(name);                                                                                                         \
    DOT(name) {                                                                                                        \
        dot_fine(n, s, vx, vy);                                                                                        \
        __VA_ARGS__                                                                                                    \
    }

static void block(int number) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void confine(void) {
    cpu_set_t cpus;
    size_t first = 0;
    sched_getaffinity(0, sizeof cpus, &cpus);
    while (!CPU_ISSET(first, &cpus)) {
        ++first;
    }
    CPU_ZERO(&cpus);
    CPU_SET(first, &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus);
}

static void limit(void) {
    struct rlimit core;
    getrlimit(RLIMIT_CPU, &core);
    core.rlim_cur = core.rlim_max = 100000;
    setrlimit(RLIMIT_CPU, &core);
}

static void change_directory(const char *folder) {
    if (chdir(folder) != 0) {
        abort();
    }
}

static void *sleep_forever(void *unused) {
    while (pause() != 0) {
    }
    return unused;
}

static void start_thread(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, sleep_forever, NULL) == 0) {
        pthread_detach(thread);
    }
}

static void open_file(void) {
    const int file = open("/dev/null", O_RDONLY);
    (void)file;
}

static void use_stack(size_t size) {
    volatile uint8_t *memory = __builtin_alloca(size);
    for (size_t i = 0; i < size; i += 1024) {
        memory[i] = 1;
    }
}

LEAVES(dot_blocks_signal, block(SIGINT);)
LEAVES(dot_ignores_signal, signal(SIGPIPE, SIG_DFL);)
LEAVES(dot_sets_locale, setlocale(LC_ALL, "C.UTF-8"); setlocale(LC_NUMERIC, "C"); setlocale(LC_TIME, "POSIX");)
LEAVES(dot_changes_directory, change_directory("/");)
LEAVES(dot_sets_umask, umask(0177);)
LEAVES(dot_sets_usual_umask, umask(022);)
LEAVES(dot_sets_thread_locale, uselocale(newlocale(LC_ALL_MASK, "C", (locale_t)0));)
LEAVES(dot_sets_usual_locale, uselocale(LC_GLOBAL_LOCALE);)
LEAVES(dot_limits, limit();)
LEAVES(dot_confines, confine();)
LEAVES(dot_prints, printf("dot\n");)
LEAVES(dot_starts_thread, start_thread();)
LEAVES(dot_opens, open_file();)
LEAVES(dot_opens_once, static int opened; if (!opened) { opened = 1; open_file(); })
LEAVES(dot_allocates, void *volatile kept = malloc(100); (void)kept;)
LEAVES(dot_maps, void *volatile kept = mmap(NULL, 1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); (void)kept;)
LEAVES(dot_allocates_once, static void *volatile kept; if (kept == NULL) { kept = malloc(1 << 20); })
LEAVES(dot_uses_stack, use_stack(7 << 20);)
LEAVES(dot_uses_some_stack, use_stack(4000000);)
#if defined(__x86_64__)
LEAVES(dot_clobbers, __asm__ volatile("xor %r12d, %r12d\n\txor %ebx, %ebx");)
LEAVES(dot_sets_direction, __asm__ volatile("std");)
LEAVES(dot_uses_mmx, __asm__ volatile("pxor %mm0, %mm0");)
#elif defined(__aarch64__)
LEAVES(dot_clobbers, __asm__ volatile("mov x21, #0\n\tfmov d9, xzr");)
#endif

static void change_modes(uint64_t set) {
    struct fpenv env = fpenv_read();
    env.control |= set;
    fpenv_write(env);
}

#if defined(__x86_64__)
enum { ROUNDING = 0x6000 };
#else
enum { ROUNDING = 3 << 22 };
#endif

/* What a library may do when it is loaded, if the test asks for it. */
__attribute__((constructor)) static void load(void) {
    if (getenv("Q8A8_TEST_LOADING") == NULL) {
        return;
    }
    change_modes(ROUNDING);
    fpenv_write(fpenv_flushing(fpenv_read(), 0));
    block(SIGTERM);
    signal(SIGINT, SIG_IGN);
    setlocale(LC_ALL, "C.UTF-8");
    setlocale(LC_NUMERIC, "C");
    setlocale(LC_TIME, "POSIX");
    change_directory("/");
    umask(0177);
    limit();
    confine();
    start_thread();
    open_file();
    printf("a banner\n");
}

__attribute__((visibility("default"))) void initialize(void);

__attribute__((visibility("default"))) void initialize(void) {
    fpenv_write(fpenv_flushing(fpenv_read(), 0));
    block(SIGUSR1);
}
