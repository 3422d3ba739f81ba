#include "preempt.h"

#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/time.h>

enum { INTERVAL_US = 50 };

static void step_aside(int number) {
    (void)number;
    sched_yield();
}

static void mask(int how) {
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(how, &alarm, NULL);
}

static void set_timer(long microseconds) {
    const struct itimerval times = {{0, microseconds}, {0, microseconds}};
    (void)setitimer(ITIMER_REAL, &times, NULL);
}

void preempt_start(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = step_aside;
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    mask(SIG_BLOCK); /* in the thread that waits for the others, and in threads that it starts */
    set_timer(INTERVAL_US);
}

void preempt_admit(void) {
    mask(SIG_UNBLOCK);
}

void preempt_stop(void) {
    set_timer(0);
}
