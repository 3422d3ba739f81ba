/* Kernels with one fault each, for the workers' tests. All but the last have the quantizer's signature; the values
 * that they write are arbitrary. */
#define _GNU_SOURCE
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

static int initialized;
static volatile uint8_t sink;

void setup(void) { initialized = 1; }

void good(const float *x, void *y, int64_t k) {
    uint8_t *out = y;
    for (int64_t i = 0; i < k / 32 * 34; i++) out[i] = (uint8_t)x[i % 32];
}

/* Writes 1 if setup() was called, else 2. */
void reports_setup(const float *x, void *y, int64_t k) {
    (void)x;
    if (k) memset(y, initialized ? 1 : 2, 1);
}

void reads_after(const float *x, void *y, int64_t k) {
    good(x, y, k);
    sink = ((const volatile uint8_t *)x)[4 * k];
}

void reads_before(const float *x, void *y, int64_t k) {
    good(x, y, k);
    sink = ((const volatile uint8_t *)x)[-1];
}

void writes_after(const float *x, void *y, int64_t k) {
    good(x, y, k);
    ((volatile uint8_t *)y)[k / 32 * 34 + 2] = 7;
}

void writes_before(const float *x, void *y, int64_t k) {
    good(x, y, k);
    ((volatile uint8_t *)y)[-3] = 7;
}

/* Reads 16 bytes behind x where they lie on x's last page. */
void reads_ahead(const float *x, void *y, int64_t k) {
    good(x, y, k);
    const uintptr_t end = (uintptr_t)(x + k);
    if ((end - 1) / 4096 == (end + 15) / 4096) sink = ((const volatile uint8_t *)end)[0] ^ ((const volatile uint8_t *)end)[15];
}

/* Reads 4 bytes before x where x is not the first of its page. */
void reads_behind(const float *x, void *y, int64_t k) {
    good(x, y, k);
    if ((uintptr_t)x % 4096) sink = ((const volatile uint8_t *)x)[-4];
}

/* Writes back the byte behind y. */
void stores_back(const float *x, void *y, int64_t k) {
    good(x, y, k);
    volatile uint8_t *behind = (volatile uint8_t *)y + k / 32 * 34;
    *behind = *behind;
}

#if defined(__x86_64__)
#include <immintrin.h>
/* Legal: of eight floats, of which the last four lie behind x, a mask takes the first four. */
__attribute__((target("avx2"))) void loads_masked(const float *x, void *y, int64_t k) {
    good(x, y, k);
    const __m256i mask = _mm256_setr_epi32(-1, -1, -1, -1, 0, 0, 0, 0);
    const __m256 last = _mm256_maskload_ps(x + k - 4, mask);
    sink = (uint8_t)_mm256_cvtss_f32(last);
    float *codes = (float *)((uint8_t *)y + k / 32 * 34 - 16);
    _mm256_maskstore_ps(codes, mask, _mm256_maskload_ps(codes, mask));
}
#endif

void writes_input(const float *x, void *y, int64_t k) {
    good(x, y, k);
    ((volatile uint8_t *)(uintptr_t)x)[5] = 7;
}

void rounds_up(const float *x, void *y, int64_t k) {
    good(x, y, k);
    fesetround(FE_UPWARD);
}

void unmasks_traps(const float *x, void *y, int64_t k) {
    good(x, y, k);
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() & ~_MM_MASK_UNDERFLOW);
#endif
}

void sets_flush(const float *x, void *y, int64_t k) {
    good(x, y, k);
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040);
#elif defined(__aarch64__)
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr | (1u << 24)));
#endif
}

/* Raises sticky flags only, which is allowed. */
void raises_flags(const float *x, void *y, int64_t k) {
    good(x, y, k);
    volatile float third = 1.0f;
    third = third / 3.0f;
    feraiseexcept(FE_UNDERFLOW);
}

/* Writes 1 if subnormals are flushed, else 2. */
void reports_flush(const float *x, void *y, int64_t k) {
    volatile float tiny = 1e-38f;
    (void)x;
    tiny *= 0.125f;
    if (k) memset(y, tiny == 0.0f ? 1 : 2, 1);
}

void counts_calls(const float *x, void *y, int64_t k) {
    static uint8_t calls;
    good(x, y, k);
    ((uint8_t *)y)[3] = calls++;
}

/* Right in one thread, wrong if several share its sum. A thread is hardly ever stopped between the read and the
   write of an addition, where it would put back what it had. */
void shares_state(const float *x, void *y, int64_t k) {
    static volatile uint64_t sum;
    sum = 0;
    for (int64_t i = 0; i < k; i++) {
        volatile uint64_t term = 0;
        for (int turn = 0; turn < 1000; turn++) term += x[i] > 0;
        sum += term;
    }
    uint64_t result = sum;
    memcpy(y, &result, sizeof result);
}

/* Right in one thread. In several another length's plan replaces this one's, if it comes between two reads. */
void keeps_plan(const float *x, void *y, int64_t k) {
    static volatile int64_t length = -1, blocks;
    if (length != k) {
        length = k;
        blocks = k / 32;
    }
    int64_t bytes = 34 * blocks;
    for (int64_t i = 0; i < bytes && i < 34 * (k / 32); i++) ((uint8_t *)y)[i] = (uint8_t)x[i % 32];
}

/* Right in one thread, and in several with the same input. */
void shares_scratch(const float *x, void *y, int64_t k) {
    static uint8_t scratch[34 * 1024];
    for (int turn = 0; turn < 100; turn++)
        for (int64_t i = 0; i < k / 32 * 34; i++) ((volatile uint8_t *)scratch)[i] = (uint8_t)x[i % 32];
    /* Byte by byte: a thread that is stopped at a page of y goes on with what the others left in the scratch. */
    for (int64_t i = 0; i < k / 32 * 34; i++) ((volatile uint8_t *)y)[i] = ((volatile uint8_t *)scratch)[i];
}

/* Right with any number of threads, of which only one computes at a time. */
void takes_lock(const float *x, void *y, int64_t k) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    good(x, y, k);
    pthread_mutex_unlock(&lock);
}

/* As takes_lock, but the others wait actively. */
void spins(const float *x, void *y, int64_t k) {
    static volatile char taken;
    while (__sync_lock_test_and_set(&taken, 1)) {
    }
    good(x, y, k);
    __sync_lock_release(&taken);
}

/* The order of the codes depends on whether another thread is in its call. */
void tries_lock(const float *x, void *y, int64_t k) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    const int alone = pthread_mutex_trylock(&lock) == 0;
    good(x, y, k);
    if (k) ((uint8_t *)y)[0] = alone ? 1 : 2;
    if (alone) pthread_mutex_unlock(&lock);
}

/* A table that is filled in the first call, and said to be so before. */
void fills_late(const float *x, void *y, int64_t k) {
    static volatile uint8_t table[32];
    static volatile int filled;
    uint8_t *out = y;
    if (!filled) {
        struct timespec some = {0, 2000000};
        filled = 1;
        while (nanosleep(&some, &some)) {
        }
        for (int i = 0; i < 32; i++) table[i] = 1;
    }
    for (int64_t i = 0; i < k / 32 * 34; i++) out[i] = (uint8_t)(table[i % 32] * (uint8_t)x[i % 32]);
}

/* As it should be: the table is filled once, which takes a while. */
static volatile uint8_t ones[32];
static void fill_ones(void) {
    struct timespec some = {0, 10000000};
    while (nanosleep(&some, &some)) {
    }
    for (int i = 0; i < 32; i++) ones[i] = 1;
}
void fills_once(const float *x, void *y, int64_t k) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    uint8_t *out = y;
    pthread_once(&once, fill_ones);
    for (int64_t i = 0; i < k / 32 * 34; i++) out[i] = (uint8_t)(ones[i % 32] * (uint8_t)x[i % 32]);
}

/* Threads are numbered, and every sixteenth, or every 64th, has the same memory. */
static void numbered(const float *x, void *y, int64_t k, int slots) {
    static _Thread_local int mine = -1;
    static int threads;
    static volatile uint8_t rows[64][34 * 64];
    if (mine < 0) mine = __sync_fetch_and_add(&threads, 1) % slots;
    for (int64_t i = 0; i < k / 32 * 34; i++) rows[mine][i] = (uint8_t)x[i % k];
    for (int64_t i = 0; i < k / 32 * 34; i++) ((uint8_t *)y)[i] = rows[mine][i];
}
void numbers_threads(const float *x, void *y, int64_t k) { numbered(x, y, k, 16); }
void numbers_to_64(const float *x, void *y, int64_t k) { numbered(x, y, k, 64); }

/* Uses six megabytes of stack. */
void uses_stack(const float *x, void *y, int64_t k) {
    volatile char room[6 << 20];
    for (size_t i = 0; i < sizeof room; i += 4096) room[i] = 1;
    good(x, y, k);
}

/* A thread of its own reads the input. */
struct part {
    const float *x;
    uint8_t *y;
    int64_t k;
};
static void *make_part(void *argument) {
    struct part *part = argument;
    good(part->x, part->y, part->k);
    return NULL;
}
void starts_thread(const float *x, void *y, int64_t k) {
    struct part part = {x, y, k};
    pthread_t thread;
    if (pthread_create(&thread, NULL, make_part, &part) == 0) pthread_join(thread, NULL);
}

/* Blocks all signals during the call, or those only that no fault sends: a stop by one must not be tried. */
static void blocks(const float *x, void *y, int64_t k, int faults) {
    sigset_t all, before;
    sigfillset(&all);
    if (!faults) {
        sigdelset(&all, SIGSEGV);
        sigdelset(&all, SIGBUS);
    }
    pthread_sigmask(SIG_SETMASK, &all, &before);
    good(x, y, k);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
void blocks_signals(const float *x, void *y, int64_t k) { blocks(x, y, k, 1); }
void blocks_all_but_faults(const float *x, void *y, int64_t k) { blocks(x, y, k, 0); }

/* A thread that stays, with all signals blocked, makes the rows. */
static pthread_mutex_t pool_free = PTHREAD_MUTEX_INITIALIZER, pool_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t pool_changed = PTHREAD_COND_INITIALIZER;
static struct part *pool_part;
static void *serve_pool(void *unused) {
    (void)unused;
    pthread_mutex_lock(&pool_lock);
    for (;;) {
        while (pool_part == NULL) pthread_cond_wait(&pool_changed, &pool_lock);
        good(pool_part->x, pool_part->y, pool_part->k);
        pool_part = NULL;
        pthread_cond_broadcast(&pool_changed);
    }
    return NULL;
}
static void start_pool(void) {
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_create(&thread, NULL, serve_pool, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
void keeps_pool(const float *x, void *y, int64_t k) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct part part = {x, y, k};
    pthread_once(&once, start_pool);
    pthread_mutex_lock(&pool_free);
    pthread_mutex_lock(&pool_lock);
    pool_part = &part;
    pthread_cond_broadcast(&pool_changed);
    while (pool_part != NULL) pthread_cond_wait(&pool_changed, &pool_lock);
    pthread_mutex_unlock(&pool_lock);
    pthread_mutex_unlock(&pool_free);
}

/* Adds to the output instead of overwriting it. */
void accumulates(const float *x, void *y, int64_t k) {
    (void)x;
    if (k) *(uint8_t *)y += 1;
}

void prints(const float *x, void *y, int64_t k) {
    good(x, y, k);
    printf("hello from the kernel, %d\n", getchar());
    fflush(stdout);
}

void crashes(const float *x, void *y, int64_t k) {
    (void)x, (void)y, (void)k;
    *(volatile int *)0 = 1;
}

void reads_after_later(const float *x, void *y, int64_t k) {
    static volatile int calls;
    if (++calls > 20) reads_after(x, y, k);
}

void aborts(const float *x, void *y, int64_t k) {
    (void)x, (void)y, (void)k;
    abort();
}

void corrupts_heap(const float *x, void *y, int64_t k) {
    (void)x, (void)y, (void)k;
    for (int i = 0; i < 64; i++) {
        char *volatile block = malloc(5000);
        memset(block - 16, 0x5a, 5032);
        free(block);
    }
    for (size_t size = 8; size < 100000; size += 8) sink = *(volatile uint8_t *)malloc(size);
    free((void *)x);
}

void exits(const float *x, void *y, int64_t k) {
    (void)x, (void)y, (void)k;
    _exit(3);
}

static int deep(int n) {
    volatile char room[4096];
    room[n % 4096] = 1;
    return n < 0 ? 0 : deep(n + 1) + room[0];
}

void overflows_stack(const float *x, void *y, int64_t k) {
    (void)x, (void)y, (void)k;
    sink = (uint8_t)deep(1);
}

void hangs(const float *x, void *y, int64_t k) {
    (void)x, (void)y, (void)k;
    for (;;) sink = 0;
}

/* Needs 16-byte alignment of x, which is not allowed. */
void needs_alignment(const float *x, void *y, int64_t k) {
    good(x, y, k);
#if defined(__x86_64__)
    __asm__ volatile("movaps (%0), %%xmm0" : : "r"(x) : "xmm0", "memory");
#endif
}

/* A dot product that writes its arguments, to test their order and width. */
void reports_arguments(int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy, size_t by, int nrc) {
    s[0] = (float)n;
    s[1] = (float)bs;
    s[2] = (float)bx;
    s[3] = (float)by;
    s[4] = (float)nrc;
    s[5] = (float)*(const uint8_t *)vx;
    s[6] = (float)*(const uint8_t *)vy;
}
