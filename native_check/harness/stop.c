#include "stop.h"
#include "exit.h"

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { NAP_NS = 20 * 1000, WAIT_NS = 1000 * 1000, SECOND_NS = 1000 * 1000 * 1000 };

/* In a sigevent, the thread that gets the signal; older C libraries have no name for it. */
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static struct {
    uint8_t *page;
    size_t size;
    int access;
} closed; /* page is NULL where none is */
static atomic_uint begun, reached, released; /* numbers of rounds */
static sem_t news;
static _Thread_local volatile bool inside;

static void stop_here(void) {
    const struct timespec nap = {0, NAP_NS};
    const unsigned round = atomic_load(&begun);
    if (atomic_load(&released) == round) {
        return;
    }
    atomic_store(&reached, round);
    stop_tell();
    while (atomic_load(&released) != round) {
        nanosleep(&nap, NULL);
    }
}

static void on_timer(int number) {
    const int kept = errno;
    (void)number;
    if (inside) {
        stop_here();
    }
    errno = kept;
}

void stop_install(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_timer;
    action.sa_flags = SA_RESTART;
    if (sem_init(&news, 0, 0) != 0 || sigaction(SIGALRM, &action, NULL) != 0) {
        fail("sigaction: %s", strerror(errno));
    }
}

void stop_begin(void) {
    closed.page = NULL;
    atomic_fetch_add(&begun, 1);
}

void stop_close(const struct region *region, size_t place) {
    uint8_t *page = region->start + place;
    page -= (uintptr_t)page % region->page;
    closed.size = region->page;
    closed.access = region->readonly ? PROT_READ : PROT_READ | PROT_WRITE;
    closed.page = mprotect(page, region->page, PROT_NONE) == 0 ? page : NULL;
}

/* Set this thread's timer; 0 switches it off. (Before glibc 2.34 the functions are in another library.) */
static void set_timer(uint64_t delay_ns) {
    static _Thread_local int timer = -1;
    const struct itimerspec times = {.it_value = {(time_t)(delay_ns / SECOND_NS), (long)(delay_ns % SECOND_NS)}};
    if (timer < 0) {
        struct sigevent event;
        memset(&event, 0, sizeof event);
        event.sigev_notify = SIGEV_THREAD_ID;
        event.sigev_signo = SIGALRM;
        event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
        if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer) != 0) {
            timer = -1;
            return;
        }
    }
    (void)syscall(SYS_timer_settime, timer, 0, &times, NULL);
    if (delay_ns == 0) {
        (void)syscall(SYS_timer_delete, timer);
        timer = -1;
    }
}

void stop_enter(uint64_t delay_ns) {
    inside = true;
    if (delay_ns != 0) {
        set_timer(delay_ns);
    }
}

void stop_leave(uint64_t delay_ns) {
    inside = false;
    if (delay_ns != 0) {
        set_timer(0);
    }
}

bool stop_reached(void) {
    return atomic_load(&reached) == atomic_load(&begun);
}

void stop_release(void) {
    if (closed.page != NULL && mprotect(closed.page, closed.size, closed.access) != 0) {
        fail("mprotect: %s", strerror(errno));
    }
    atomic_store(&released, atomic_load(&begun));
}

bool stop_at_fault(uintptr_t address) {
    /* A second fault in the same page is not caused by its being closed: it is the kernel's. */
    static _Thread_local unsigned let_in;
    const uintptr_t page = (uintptr_t)closed.page;
    const unsigned round = atomic_load(&begun);
    if (page == 0 || address < page || address >= page + closed.size || let_in == round) {
        return false;
    }
    let_in = round;
    stop_here();
    return true;
}

void stop_wait(void) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_nsec += WAIT_NS;
    end.tv_sec += end.tv_nsec / SECOND_NS;
    end.tv_nsec %= SECOND_NS;
    (void)sem_timedwait(&news, &end);
}

void stop_tell(void) {
    (void)sem_post(&news);
}
