#include "together.h"
#include "cpu.h"
#include "fresh.h"
#include "stop.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    STACK_BYTES = (8 << 20) + (1 << 18), /* 8 MiB, and what the thread itself needs */
    MIN_ROUNDS = 18,
    MAX_ROUNDS = 1000,
    MAX_ROUNDS_S = 3,      /* for all rounds; on a machine that is busy for so long fewer must do */
    MAX_STOP_S = 2,        /* for one */
    ASLEEP_NS = 4000000,   /* all others sleep: they wait for the stopped thread */
    SPINS_NS = 100000000,  /* of processor time without a result: they wait actively */
    SLICE_NS = 100000,     /* of calls by the others while one is stopped */
    MILLISECOND_NS = 1000000,
    TRIAL_NAPS = 5000,     /* of 0.2 ms, for stops in a copy of the process */
    MAX_LOCKED = 3,        /* stops of a kernel with a lock */
};
static const uint64_t second_ns = 1000000000;

struct member {
    pthread_t id;
    struct caller *caller;
    sem_t go;
    atomic_uint asked, done; /* calls, or groups of free calls */
    atomic_int tid;
    uint64_t stop_delay, deadline; /* of what is asked for */
    uint32_t count;                /* least number of calls; 0: end the thread */
};

static struct member members[MAX_THREADS];

static void serve_once(struct member *member) {
    uint32_t made = 0;
    do {
        caller_call(member->caller, member->stop_delay);
    } while (++made < member->count || (member->deadline != 0 && now_ns() < member->deadline));
}

static void *serve(void *argument) {
    struct member *member = argument;
    atomic_store(&member->tid, (int)syscall(SYS_gettid));
    for (;;) {
        while (sem_wait(&member->go) != 0) {
        }
        if (member->count == 0) {
            return NULL;
        }
        serve_once(member);
        atomic_fetch_add(&member->done, 1);
        stop_tell();
    }
}

static void *make_one_call(void *caller) {
    caller_call(caller, 0);
    return NULL;
}

static void ask(struct member *member, uint32_t count, uint64_t deadline, uint64_t stop_delay) {
    member->count = count;
    member->deadline = deadline;
    member->stop_delay = stop_delay;
    atomic_fetch_add(&member->asked, 1);
    sem_post(&member->go);
}

static bool is_done(const struct member *member) {
    return atomic_load(&member->done) == atomic_load(&member->asked);
}

static bool all_done(unsigned threads, unsigned except) {
    for (unsigned t = 0; t < threads; ++t) {
        if (t != except && !is_done(&members[t])) {
            return false;
        }
    }
    return true;
}

static void wait_for_all(unsigned threads) {
    while (!all_done(threads, threads)) {
        stop_wait();
    }
}

/* Whether the system says that a thread sleeps; false where it says nothing. */
static bool sleeps(const struct member *member) {
    char path[60], text[200];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", atomic_load(&member->tid));
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0) {
        close(file);
    }
    if (length <= 0) {
        return false;
    }
    text[length] = '\0';
    const char *end = strrchr(text, ')'); /* after the program's name */
    return end != NULL && end[1] == ' ' && end[2] == 'S';
}

static bool all_sleep(unsigned threads, unsigned except) {
    for (unsigned t = 0; t < threads; ++t) {
        if (t != except && !is_done(&members[t]) && !sleeps(&members[t])) {
            return false;
        }
    }
    return true;
}

static uint64_t processor_ns(void) {
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * second_ns + (uint64_t)used.tv_nsec;
}

/* Wait until every thread but the stopped one has made its call; false if they wait for it. */
static bool wait_for_others(unsigned threads, unsigned stopped, bool hasty) {
    const unsigned scale = cpu_emulated() == 1 ? 10 : 1;
    const uint64_t start = now_ns();
    const uint64_t used = processor_ns();
    uint64_t awake = start;
    while (!all_done(threads, stopped)) {
        stop_wait();
        const uint64_t now = now_ns();
        if (!all_sleep(threads, stopped)) {
            awake = now;
        }
        if (now - awake > ASLEEP_NS / (hasty ? 4 : 1) || now - start > MAX_STOP_S * second_ns ||
            processor_ns() - used > (uint64_t)SPINS_NS * scale / (hasty ? 10 : 1)) {
            return false;
        }
    }
    return true;
}

/* Stop a thread in its call, and let the others call; false if they could not. */
static bool run_round(struct together *together, unsigned stopped, uint64_t delay, bool hasty) {
    ask(&members[stopped], 1, 0, delay);
    while (!stop_reached() && !is_done(&members[stopped])) {
        stop_wait();
    }
    bool passed = true;
    if (stop_reached()) {
        for (unsigned t = 0; t < together->threads; ++t) {
            if (t != stopped) {
                ask(&members[t], 1, now_ns() + SLICE_NS, 0);
            }
        }
        passed = wait_for_others(together->threads, stopped, hasty);
        together->stops += passed;
    }
    stop_release();
    wait_for_all(together->threads);
    return passed;
}

/* A number in [0, count), evenly spread over the numbers of rounds. */
static size_t spread(uint32_t round, size_t count) {
    return (size_t)((uint64_t)(uint32_t)(round * 2654435769u) * count >> 32);
}

/* Put a border of pages somewhere in a buffer of the thread, and close what is behind it. The buffer stays on a boundary
   of 64 bytes: what a kernel needs in alignment is no matter of threads. */
static void close_part(struct caller *caller, uint32_t round) {
    const struct call *call = caller->call;
    const size_t i = round % buffer_count(call);
    const uint32_t length = call->buffers[i].length;
    const unsigned step = 64;
    struct region *region = &caller->regions[i];
    if (length == 0) {
        return;
    }
    size_t place = spread(round / (uint32_t)buffer_count(call) + 1, (length - 1) / step + 1) * step;
    if (!(call->options & (OPTION_GUARD_AFTER | OPTION_GUARD_BEFORE))) {
        const size_t page = region->page;
        caller_check_memory(caller);
        if (caller_place(caller, i, (uint32_t)(2 * page - (region_margin() + place) % page) % (uint32_t)page) != NULL) {
            return;
        }
    }
    stop_close(region, place);
}

/* The thread to be stopped: mostly one of the first two, whose calls differ. */
static unsigned choose(unsigned threads, uint32_t round) {
    return round % 8 == 7 ? (unsigned)spread(round, threads) : round / 3 % 2;
}

/* The time of a call that nothing has stopped. */
static uint64_t shortest(const struct caller *caller) {
    uint64_t found = UINT64_MAX;
    for (size_t i = 0; i < caller->span_count; ++i) {
        const uint64_t time = caller->spans[i].end - caller->spans[i].start;
        found = time < found ? time : found;
    }
    return found;
}

static void run_rounds(struct together *together) {
    static unsigned locked[ABI_FUNCTIONS];
    const unsigned function = together->callers[0].call->number;
    const uint64_t start = now_ns();
    uint32_t round = 0, stopped_by_page = 0;
    unsigned failed = 0;
    while (failed < (locked[function] >= MAX_LOCKED ? 1 : MAX_LOCKED)) {
        const uint64_t spent = now_ns() - start;
        const bool enough = round >= MIN_ROUNDS && spent >= (uint64_t)together->milliseconds * MILLISECOND_NS;
        if (enough || spent > MAX_ROUNDS_S * second_ns || round >= MAX_ROUNDS) {
            break;
        }
        const unsigned stopped = choose(together->threads, round);
        uint64_t delay = 0;
        stop_begin();
        if (round % 3 == 2 || together->by_time) {
            delay = 1 + spread(round, shortest(members[stopped].caller));
        } else {
            close_part(members[stopped].caller, stopped_by_page++);
        }
        if (!run_round(together, stopped, delay, locked[function] != 0)) {
            ++failed;
            locked[function] += 1;
        }
        ++round;
    }
}

static int by_time(const void *left, const void *right) {
    const struct span *a = left;
    const struct span *b = right;
    return (a->start > b->start) - (a->start < b->start);
}

/* The time in which at least two calls were in progress. */
static uint64_t overlap_of(const struct together *together) {
    size_t count = 0;
    for (unsigned t = 0; t < together->threads; ++t) {
        count += together->callers[t].span_count;
    }
    struct span *spans = malloc((count + 1) * sizeof *spans);
    if (spans == NULL) {
        return 0;
    }
    count = 0;
    for (unsigned t = 0; t < together->threads; ++t) {
        memcpy(spans + count, together->callers[t].spans, together->callers[t].span_count * sizeof *spans);
        count += together->callers[t].span_count;
    }
    qsort(spans, count, sizeof *spans, by_time);
    /* Up to `last` a call is in progress, up to `second` two are. */
    uint64_t last = 0, second = 0, sum = 0;
    for (size_t i = 0; i < count; ++i) {
        const struct span span = spans[i];
        const uint64_t from = span.start > second ? span.start : second;
        const uint64_t to = span.end < last ? span.end : last;
        if (to > from) {
            sum += to - from;
            second = to;
        }
        last = span.end > last ? span.end : last;
    }
    free(spans);
    return sum;
}

static bool start(struct member *member, struct caller *caller, const pthread_attr_t *attributes) {
    member->caller = caller;
    atomic_store(&member->asked, 0);
    atomic_store(&member->done, 0);
    sem_init(&member->go, 0, 0);
    return pthread_create(&member->id, attributes, serve, member) == 0;
}

/* Threads that make one call and end, so that kernels that number their threads, and share memory by the number's
 * remainder, do so among the threads that stay: these get 0 to 7, 17 to 20, 25, 26, 33 and 34. Those that share make
 * different calls. */
static void spend_numbers(struct together *together, unsigned thread, const pthread_attr_t *attributes) {
    const unsigned count = thread == 8 ? 9 : thread == 12 ? 4 : thread == 14 ? 6 : 0;
    for (unsigned i = 0; i < count; ++i) {
        pthread_t id;
        if (pthread_create(&id, attributes, make_one_call, &together->callers[together->threads]) == 0) {
            pthread_join(id, NULL);
        }
    }
}

static void ask_all(struct together *together, uint32_t count) {
    const uint64_t time = (uint64_t)together->milliseconds * MILLISECOND_NS;
    for (unsigned t = 0; t < together->threads; ++t) {
        ask(&members[t], count, time != 0 ? now_ns() + time : 0, 0);
    }
    wait_for_all(together->threads);
}

/* The first call of each thread: stopped by time, all at once, or one after another. */
static void first_calls(struct together *together, const pthread_attr_t *attributes) {
    if (together->first && together->delay_ns != 0) {
        stop_begin();
        (void)run_round(together, 0, together->delay_ns, false);
    } else if (together->first || together->milliseconds == 0) {
        ask_all(together, 1);
    } else {
        for (unsigned t = 0; t < together->threads; ++t) {
            spend_numbers(together, t, attributes);
            ask(&members[t], 1, 0, 0);
            wait_for_all(together->threads);
        }
    }
}

static const char *run_threads(struct together *together) {
    const unsigned threads = together->threads;
    unsigned started = 0;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    while (started < threads && start(&members[started], &together->callers[started], &attributes)) {
        ++started;
    }
    const char *refusal = started < threads ? "cannot start so many threads" : NULL;
    if (refusal == NULL) {
        first_calls(together, &attributes);
        if (!together->first && together->repeat > 1) {
            run_rounds(together);
        }
        ask_all(together, together->milliseconds != 0 ? 1 : together->repeat);
        together->overlap_ns = overlap_of(together);
    }
    for (unsigned t = 0; t < started; ++t) {
        ask(&members[t], 0, 0, 0);
        pthread_join(members[t].id, NULL);
        sem_destroy(&members[t].go);
    }
    pthread_attr_destroy(&attributes);
    return refusal;
}

/* Whether a thread that is not the harness's blocks the signal of faults. */
static bool faults_are_blocked(void) {
    DIR *tasks = opendir("/proc/self/task");
    bool found = false;
    for (struct dirent *entry; tasks != NULL && !found && (entry = readdir(tasks)) != NULL;) {
        char path[300], line[128];
        unsigned long long blocked;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
        FILE *status = fopen(path, "r");
        while (status != NULL && fgets(line, sizeof line, status) != NULL) {
            if (sscanf(line, "SigBlk: %llx", &blocked) == 1) {
                found = (blocked >> (SIGSEGV - 1) & 1) != 0;
            }
        }
        if (status != NULL) {
            fclose(status);
        }
    }
    if (tasks != NULL) {
        closedir(tasks);
    }
    return found;
}

/* Whether threads can be stopped at closed pages, in a copy of the process. Of another crash it tells, on its standard
 * error: that is not what is asked here. */
static bool stops_survive(const struct together *together) {
    const struct timespec nap = {0, 200000};
    int status, ends[2];
    char told[5] = "";
    if (pipe(ends) != 0) {
        return true;
    }
    const pid_t child = fork();
    if (child == 0) {
        struct together trial = *together;
        dup2(ends[1], STDERR_FILENO);
        trial.milliseconds = 0;
        trial.repeat = 2;
        run_threads(&trial);
        _exit(0);
    }
    close(ends[1]);
    bool ended = child < 0, blocked = false;
    for (unsigned naps = 0; !ended && naps < TRIAL_NAPS; ++naps) {
        ended = waitpid(child, &status, WNOHANG) == child;
        blocked = ended && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
        if (!ended) {
            nanosleep(&nap, NULL);
        }
    }
    if (!ended) {
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
    }
    /* (An emulator tells of the end, too.) */
    blocked = blocked && (read(ends[0], told, sizeof told) < (ssize_t)sizeof told || memcmp(told, "fault", sizeof told) != 0);
    close(ends[0]);
    return !blocked;
}

/* Whether the kernel blocks the signal of faults, in its calls or in threads of its own, as it may: a fault that is
 * blocked ends the process. It is found out once for two functions. */
static bool blocks_faults(const struct together *together) {
    static enum { UNKNOWN, OPEN, BLOCKED } known[ABI_FUNCTIONS][ABI_FUNCTIONS];
    const unsigned first = together->callers[0].call->number, second = together->callers[1].call->number;
    if (known[first][second] == UNKNOWN) {
        const bool blocked = fresh_can_copy() ? !stops_survive(together) : faults_are_blocked();
        known[first][second] = blocked ? BLOCKED : OPEN;
    }
    return known[first][second] == BLOCKED;
}

const char *together_run(struct together *together) {
    together->by_time = !together->first && together->repeat > 1 && blocks_faults(together);
    return run_threads(together);
}
