#include "convention.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* void q8a8_convention_call(const uint64_t words[8], void *found, abi_pointer *function, void *stack)
 * fills the callee-saved registers with the numbers FIRST_MARK, FIRST_MARK + 1 ..., makes the call, and stores what it
 * finds in these registers afterwards. */
void q8a8_convention_call(const uint64_t *words, void *found, abi_pointer *function, void *stack);

enum { FIRST_MARK = 0x5100 };

#if defined(__x86_64__)

enum { SAVED = 6, DIRECTION_FLAG = 0x400 };

static const char *const saved_names[SAVED] = {"rbx", "rbp", "r12", "r13", "r14", "r15"};

struct found {
    uint64_t saved[SAVED];
    uint64_t flags;
    uint64_t unused;
    uint8_t fxsave[512]; /* byte 4: a bit for each x87 register in use */
} __attribute__((aligned(64)));

__asm__(".text\n"
        ".globl q8a8_convention_call\n"
        ".hidden q8a8_convention_call\n"
        ".type q8a8_convention_call, @function\n"
        "q8a8_convention_call:\n"
        "    push %rbx\n    push %rbp\n    push %r12\n    push %r13\n    push %r14\n    push %r15\n"
        "    mov %rsp, %r10\n"
        "    test %rcx, %rcx\n"
        "    cmovz %rsp, %rcx\n"
        "    and $-16, %rcx\n"
        "    mov %rcx, %rsp\n"
        "    push %r10\n" /* the stack to return to */
        "    push %rsi\n"
        "    push 56(%rdi)\n" /* the arguments that are passed on the stack */
        "    push 48(%rdi)\n"
        "    mov %rdx, %rax\n"
        "    mov 8(%rdi), %rsi\n    mov 16(%rdi), %rdx\n    mov 24(%rdi), %rcx\n"
        "    mov 32(%rdi), %r8\n    mov 40(%rdi), %r9\n    mov (%rdi), %rdi\n"
        "    mov $0x5100, %rbx\n    mov $0x5101, %rbp\n    mov $0x5102, %r12\n"
        "    mov $0x5103, %r13\n    mov $0x5104, %r14\n    mov $0x5105, %r15\n"
        "    call *%rax\n"
        "    mov 16(%rsp), %r11\n"
        "    mov %rbx, (%r11)\n    mov %rbp, 8(%r11)\n    mov %r12, 16(%r11)\n"
        "    mov %r13, 24(%r11)\n    mov %r14, 32(%r11)\n    mov %r15, 40(%r11)\n"
        "    pushfq\n    pop 48(%r11)\n"
        "    cld\n"
        "    fxsave 64(%r11)\n"
        "    emms\n"
        "    mov 24(%rsp), %rsp\n"
        "    pop %r15\n    pop %r14\n    pop %r13\n    pop %r12\n    pop %rbp\n    pop %rbx\n"
        "    ret\n"
        ".size q8a8_convention_call, . - q8a8_convention_call\n");

bool convention_known(void) {
    return true;
}

static const char *other_change(const struct found *found) {
    if (found->flags & DIRECTION_FLAG) {
        return "the direction flag was left set";
    }
    return found->fxsave[4] != 0 ? "the x87 registers were left in use (MMX instructions without EMMS)" : NULL;
}

#elif defined(__aarch64__)

enum { SAVED = 18 };

static const char *const saved_names[SAVED] = {"x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27",
                                               "x28", "d8",  "d9",  "d10", "d11", "d12", "d13", "d14", "d15"};

struct found {
    uint64_t saved[SAVED];
};

__asm__(".text\n"
        ".globl q8a8_convention_call\n"
        ".hidden q8a8_convention_call\n"
        ".type q8a8_convention_call, %function\n"
        "q8a8_convention_call:\n"
        "    stp x29, x30, [sp, #-160]!\n"
        "    stp x19, x20, [sp, #16]\n    stp x21, x22, [sp, #32]\n    stp x23, x24, [sp, #48]\n"
        "    stp x25, x26, [sp, #64]\n    stp x27, x28, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n    stp d14, d15, [sp, #144]\n"
        "    mov x16, sp\n"
        "    cmp x3, #0\n"
        "    csel x17, x16, x3, eq\n"
        "    stp x16, x1, [x17, #-16]!\n" /* the stack to return to, and found */
        "    mov sp, x17\n"
        "    mov x16, x2\n"
        "    mov x17, x0\n"
        "    mov x19, #0x5100\n    mov x20, #0x5101\n    mov x21, #0x5102\n    mov x22, #0x5103\n"
        "    mov x23, #0x5104\n    mov x24, #0x5105\n    mov x25, #0x5106\n    mov x26, #0x5107\n"
        "    mov x27, #0x5108\n    mov x28, #0x5109\n"
        "    mov x0, #0x510a\n    fmov d8, x0\n    mov x0, #0x510b\n    fmov d9, x0\n"
        "    mov x0, #0x510c\n    fmov d10, x0\n    mov x0, #0x510d\n    fmov d11, x0\n"
        "    mov x0, #0x510e\n    fmov d12, x0\n    mov x0, #0x510f\n    fmov d13, x0\n"
        "    mov x0, #0x5110\n    fmov d14, x0\n    mov x0, #0x5111\n    fmov d15, x0\n"
        "    ldp x0, x1, [x17]\n    ldp x2, x3, [x17, #16]\n    ldp x4, x5, [x17, #32]\n    ldp x6, x7, [x17, #48]\n"
        "    blr x16\n"
        "    ldp x16, x17, [sp]\n"
        "    stp x19, x20, [x17]\n    stp x21, x22, [x17, #16]\n    stp x23, x24, [x17, #32]\n"
        "    stp x25, x26, [x17, #48]\n    stp x27, x28, [x17, #64]\n"
        "    stp d8, d9, [x17, #80]\n    stp d10, d11, [x17, #96]\n"
        "    stp d12, d13, [x17, #112]\n    stp d14, d15, [x17, #128]\n"
        "    mov sp, x16\n"
        "    ldp x19, x20, [sp, #16]\n    ldp x21, x22, [sp, #32]\n    ldp x23, x24, [sp, #48]\n"
        "    ldp x25, x26, [sp, #64]\n    ldp x27, x28, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n    ldp d14, d15, [sp, #144]\n"
        "    ldp x29, x30, [sp], #160\n"
        "    ret\n"
        ".size q8a8_convention_call, . - q8a8_convention_call\n");

bool convention_known(void) {
    return true;
}

static const char *other_change(const struct found *found) {
    (void)found;
    return NULL;
}

#else

enum { SAVED = 1 };

static const char *const saved_names[SAVED] = {""};

struct found {
    uint64_t saved[SAVED];
};

void q8a8_convention_call(const uint64_t *words, void *found, abi_pointer *function, void *stack) {
    (void)words;
    (void)found;
    (void)function;
    (void)stack;
}

bool convention_known(void) {
    return false;
}

static const char *other_change(const struct found *found) {
    (void)found;
    return NULL;
}

#endif

void convention_call(abi_pointer *function, const uint64_t words[ABI_WORDS], void *stack, char *text, size_t size) {
    struct found found = {0};
    text[0] = '\0';
    q8a8_convention_call(words, &found, function, stack);
    size_t used = 0;
    for (size_t i = 0; i < SAVED && used < size; ++i) {
        if (found.saved[i] != FIRST_MARK + i) {
            const char *head = used == 0 ? "callee-saved registers were changed: " : ", ";
            used += (size_t)snprintf(text + used, size - used, "%s%s", head, saved_names[i]);
        }
    }
    const char *other = other_change(&found);
    if (used == 0 && other != NULL) {
        snprintf(text, size, "%s", other);
    }
}

enum { STACK_SIZE = 64 << 20, MAX_PAGES = STACK_SIZE / 4096 };

static uint8_t *stack_start;

void *convention_stack(void) {
    if (stack_start == NULL) {
        void *memory = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) {
            return NULL;
        }
        stack_start = memory;
    }
    (void)madvise(stack_start, STACK_SIZE, MADV_DONTNEED);
    return stack_start + STACK_SIZE;
}

size_t convention_stack_used(void) {
    static unsigned char present[MAX_PAGES];
    const long page = sysconf(_SC_PAGESIZE);
    if (page < 4096 || mincore(stack_start, STACK_SIZE, present) != 0) {
        return 0;
    }
    const size_t pages = STACK_SIZE / (size_t)page;
    size_t lowest = 0;
    while (lowest < pages && !(present[lowest] & 1)) {
        ++lowest;
    }
    return (pages - lowest) * (size_t)page;
}
