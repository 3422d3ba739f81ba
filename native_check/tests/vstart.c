/* Whether an emulator goes on rightly after a vector load that a page fault has stopped: no code of a kernel is in it.
 *
 * The specification of V 1.0 (3.7, "Vector start index CSR vstart"): a trap in a vector load leaves the element in
 * vstart; the load is taken up there, and every vector instruction sets vstart to 0 at its end. A reduction raises an
 * illegal instruction where vstart is not 0. QEMU 7.2 decides that when it translates: it takes vstart for what it was at
 * the beginning of the piece of code, which is the load, and raises one for the reduction behind it.
 *
 * Status 0: the sum is right. 1: it is wrong. 2: the reduction was called illegal. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ELEMENTS = 32, PAGE = 4096 };

static uint8_t *closed;

static void open_page(int number) {
    (void)number;
    (void)mprotect(closed, PAGE, PROT_READ | PROT_WRITE);
}

static void illegal(int number) {
    uint64_t vstart;
    (void)number;
    __asm__ volatile("csrr %0, vstart" : "=r"(vstart));
    printf("the reduction after the load was called illegal, where vstart is %d\n", (int)vstart);
    (void)fflush(stdout);
    _exit(2);
}

int main(void) {
    uint8_t *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) {
        return EXIT_FAILURE;
    }
    int8_t *elements = (int8_t *)pages + PAGE - ELEMENTS / 2;
    for (int i = 0; i < ELEMENTS; ++i) {
        elements[i] = (int8_t)i;
    }
    closed = pages + PAGE;
    (void)signal(SIGSEGV, open_page);
    (void)signal(SIGILL, illegal);
    (void)mprotect(closed, PAGE, PROT_NONE);
    int64_t sum;
    __asm__ volatile("vsetvli zero, %1, e8, m2, ta, ma\n\t"
                     "vmv.s.x v4, zero\n\t"
                     "vle8.v v2, (%2)\n\t" /* stops at element 16 */
                     "vredsum.vs v4, v2, v4\n\t"
                     "vmv.x.s %0, v4"
                     : "=r"(sum)
                     : "r"((size_t)ELEMENTS), "r"(elements)
                     : "v2", "v3", "v4", "memory");
    const int8_t expected = (int8_t)(ELEMENTS * (ELEMENTS - 1) / 2);
    printf("the sum is %d, expected %d\n", (int)sum, expected);
    return sum == expected ? 0 : 1;
}
