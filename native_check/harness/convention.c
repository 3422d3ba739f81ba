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

#define OTHER_CHANGE

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

#elif defined(__riscv)

enum { SAVED = 24 };

static const char *const saved_names[SAVED] = {"s0",  "s1",  "s2",  "s3",  "s4",  "s5",  "s6",  "s7",
                                               "s8",  "s9",  "s10", "s11", "fs0", "fs1", "fs2", "fs3",
                                               "fs4", "fs5", "fs6", "fs7", "fs8", "fs9", "fs10", "fs11"};

struct found {
    uint64_t saved[SAVED];
};

#define INTEGERS(DO)                                                                                                   \
    DO("s", "0") DO("s", "1") DO("s", "2") DO("s", "3") DO("s", "4") DO("s", "5") DO("s", "6") DO("s", "7")            \
    DO("s", "8") DO("s", "9") DO("s", "10") DO("s", "11")
#define FLOATS(DO)                                                                                                     \
    DO("fs", "0") DO("fs", "1") DO("fs", "2") DO("fs", "3") DO("fs", "4") DO("fs", "5") DO("fs", "6") DO("fs", "7")    \
    DO("fs", "8") DO("fs", "9") DO("fs", "10") DO("fs", "11")
#define SAVE_INTEGER(name, i) "    sd " name i ", 8*" i "(t2)\n"
#define SAVE_FLOAT(name, i) "    fsd " name i ", 96+8*" i "(t2)\n"
#define LOAD_INTEGER(name, i) "    ld " name i ", 8*" i "(t2)\n"
#define LOAD_FLOAT(name, i) "    fld " name i ", 96+8*" i "(t2)\n"
#define MARK_INTEGER(name, i) "    li " name i ", 0x5100+" i "\n"
#define MARK_FLOAT(name, i) "    li t0, 0x510c+" i "\n    fmv.d.x " name i ", t0\n"

__asm__(".text\n"
        ".globl q8a8_convention_call\n"
        ".hidden q8a8_convention_call\n"
        ".type q8a8_convention_call, @function\n"
        "q8a8_convention_call:\n"
        "    addi sp, sp, -208\n"
        "    sd ra, 192(sp)\n"
        "    mv t2, sp\n" INTEGERS(SAVE_INTEGER) FLOATS(SAVE_FLOAT)
        "    mv t0, sp\n"
        "    beqz a3, 1f\n"
        "    mv sp, a3\n"
        "1:  addi sp, sp, -16\n"
        "    sd t0, 0(sp)\n" /* the stack to return to, and found */
        "    sd a1, 8(sp)\n"
        "    mv t1, a2\n"
        "    mv t2, a0\n" INTEGERS(MARK_INTEGER) FLOATS(MARK_FLOAT)
        "    ld a0, 0(t2)\n    ld a1, 8(t2)\n    ld a2, 16(t2)\n    ld a3, 24(t2)\n"
        "    ld a4, 32(t2)\n    ld a5, 40(t2)\n    ld a6, 48(t2)\n    ld a7, 56(t2)\n"
        "    jalr t1\n"
        "    ld t2, 8(sp)\n" INTEGERS(SAVE_INTEGER) FLOATS(SAVE_FLOAT)
        "    ld sp, 0(sp)\n"
        "    mv t2, sp\n" INTEGERS(LOAD_INTEGER) FLOATS(LOAD_FLOAT)
        "    ld ra, 192(sp)\n"
        "    addi sp, sp, 208\n"
        "    ret\n"
        ".size q8a8_convention_call, . - q8a8_convention_call\n");

#elif defined(__powerpc64__) && _CALL_ELF == 2

/* The registers 14 to 31 of integers and of floats; those of vectors and of conditions are not compared. */
enum { SAVED = 36 };

static const char *const saved_names[SAVED] = {
    "r14", "r15", "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24", "r25", "r26", "r27", "r28", "r29", "r30", "r31",
    "f14", "f15", "f16", "f17", "f18", "f19", "f20", "f21", "f22", "f23", "f24", "f25", "f26", "f27", "f28", "f29", "f30", "f31"};

struct found {
    uint64_t saved[SAVED];
};

#define FROM_14(DO)                                                                                                    \
    DO("14") DO("15") DO("16") DO("17") DO("18") DO("19") DO("20") DO("21") DO("22") DO("23") DO("24") DO("25")        \
    DO("26") DO("27") DO("28") DO("29") DO("30") DO("31")
#define SAVE_INTEGER(i) "    std " i ", 8*(" i "-14)(11)\n"
#define SAVE_FLOAT(i) "    stfd " i ", 8*(" i "+4)(11)\n"
#define LOAD_INTEGER(i) "    ld " i ", 8*(" i "-14)(11)\n"
#define LOAD_FLOAT(i) "    lfd " i ", 8*(" i "+4)(11)\n"
#define MARK_INTEGER(i) "    li " i ", 0x5100+" i "-14\n"
#define MARK_FLOAT(i) "    li 0, 0x5112+" i "-14\n    mtvsrd " i ", 0\n"

__asm__(".text\n"
        ".globl q8a8_convention_call\n"
        ".hidden q8a8_convention_call\n"
        ".type q8a8_convention_call, @function\n"
        "q8a8_convention_call:\n"
        "    mflr 0\n    std 0, 16(1)\n"
        "    mfcr 0\n    stw 0, 8(1)\n"
        "    stdu 1, -336(1)\n"
        "    addi 11, 1, 48\n" FROM_14(SAVE_INTEGER) FROM_14(SAVE_FLOAT)
        "    mr 12, 5\n" /* where a function looks for its own address */
        "    mr 0, 1\n"
        "    cmpdi 6, 0\n"
        "    beq 1f\n"
        "    mr 1, 6\n"
        "1:  addi 1, 1, -112\n"
        "    std 0, 0(1)\n" /* the stack to return to, and found */
        "    std 4, 96(1)\n"
        "    std 2, 24(1)\n"
        "    mr 11, 3\n"
        "    mtctr 12\n" FROM_14(MARK_INTEGER) FROM_14(MARK_FLOAT)
        "    ld 3, 0(11)\n    ld 4, 8(11)\n    ld 5, 16(11)\n    ld 6, 24(11)\n"
        "    ld 7, 32(11)\n    ld 8, 40(11)\n    ld 9, 48(11)\n    ld 10, 56(11)\n"
        "    bctrl\n"
        "    ld 2, 24(1)\n"
        "    ld 11, 96(1)\n" FROM_14(SAVE_INTEGER) FROM_14(SAVE_FLOAT)
        "    ld 1, 0(1)\n"
        "    addi 11, 1, 48\n" FROM_14(LOAD_INTEGER) FROM_14(LOAD_FLOAT)
        "    addi 1, 1, 336\n"
        "    lwz 0, 8(1)\n    mtcrf 0x38, 0\n"
        "    ld 0, 16(1)\n    mtlr 0\n"
        "    blr\n"
        ".size q8a8_convention_call, . - q8a8_convention_call\n");

#elif defined(__s390x__)

/* r6 is not compared: it brings the fifth argument. */
enum { SAVED = 15 };

static const char *const saved_names[SAVED] = {"r7", "r8", "r9",  "r10", "r11", "r12", "r13", "f8",
                                               "f9", "f10", "f11", "f12", "f13", "f14", "f15"};

struct found {
    uint64_t saved[SAVED];
};

__asm__(".text\n"
        ".globl q8a8_convention_call\n"
        ".hidden q8a8_convention_call\n"
        ".type q8a8_convention_call, @function\n"
        "q8a8_convention_call:\n"
        "    stmg %r6, %r15, 48(%r15)\n"
        "    aghi %r15, -224\n"
        "    std %f8, 160(%r15)\n    std %f9, 168(%r15)\n    std %f10, 176(%r15)\n    std %f11, 184(%r15)\n"
        "    std %f12, 192(%r15)\n    std %f13, 200(%r15)\n    std %f14, 208(%r15)\n    std %f15, 216(%r15)\n"
        "    lgr %r1, %r15\n"
        "    ltgr %r5, %r5\n"
        "    jz 1f\n"
        "    lgr %r15, %r5\n"
        "1:  aghi %r15, -208\n"
        "    stg %r1, 0(%r15)\n"
        "    stg %r1, 184(%r15)\n" /* the stack to return to, and found */
        "    stg %r3, 192(%r15)\n"
        "    lgr %r1, %r4\n"
        "    lgr %r14, %r2\n"
        "    mvc 160(24, %r15), 40(%r14)\n" /* the arguments that are passed on the stack */
        "    lghi %r7, 0x5100\n    lghi %r8, 0x5101\n    lghi %r9, 0x5102\n    lghi %r10, 0x5103\n"
        "    lghi %r11, 0x5104\n    lghi %r12, 0x5105\n    lghi %r13, 0x5106\n"
        "    lghi %r0, 0x5107\n    ldgr %f8, %r0\n    lghi %r0, 0x5108\n    ldgr %f9, %r0\n"
        "    lghi %r0, 0x5109\n    ldgr %f10, %r0\n    lghi %r0, 0x510a\n    ldgr %f11, %r0\n"
        "    lghi %r0, 0x510b\n    ldgr %f12, %r0\n    lghi %r0, 0x510c\n    ldgr %f13, %r0\n"
        "    lghi %r0, 0x510d\n    ldgr %f14, %r0\n    lghi %r0, 0x510e\n    ldgr %f15, %r0\n"
        "    lmg %r2, %r6, 0(%r14)\n"
        "    basr %r14, %r1\n"
        "    lg %r1, 192(%r15)\n"
        "    stmg %r7, %r13, 0(%r1)\n"
        "    std %f8, 56(%r1)\n    std %f9, 64(%r1)\n    std %f10, 72(%r1)\n    std %f11, 80(%r1)\n"
        "    std %f12, 88(%r1)\n    std %f13, 96(%r1)\n    std %f14, 104(%r1)\n    std %f15, 112(%r1)\n"
        "    lg %r15, 184(%r15)\n"
        "    ld %f8, 160(%r15)\n    ld %f9, 168(%r15)\n    ld %f10, 176(%r15)\n    ld %f11, 184(%r15)\n"
        "    ld %f12, 192(%r15)\n    ld %f13, 200(%r15)\n    ld %f14, 208(%r15)\n    ld %f15, 216(%r15)\n"
        "    aghi %r15, 224\n"
        "    lmg %r6, %r15, 48(%r15)\n"
        "    br %r14\n"
        ".size q8a8_convention_call, . - q8a8_convention_call\n");

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

#define UNKNOWN

#endif

bool convention_known(void) {
#if defined(UNKNOWN)
    return false;
#else
    return true;
#endif
}

#if !defined(OTHER_CHANGE)
static const char *other_change(const struct found *found) {
    (void)found;
    return NULL;
}
#endif

#if defined(__x86_64__) || defined(__aarch64__)

/* Vector registers that belong to no caller, filled with bytes ABI_UNDEFINED: a kernel must not take them for zero. */
static void fill_vectors(void) {
#if defined(__x86_64__)
    const uint64_t bits = UINT64_C(0x0101010101010101) * ABI_UNDEFINED;
    if (!__builtin_cpu_supports("avx")) {
        return;
    }
#define FILL(n) "vmovaps %%ymm0, %%ymm" #n "\n\t"
    __asm__ volatile("vmovq %0, %%xmm0\n\tvpunpcklqdq %%xmm0, %%xmm0, %%xmm0\n\t"
                     "vinsertf128 $1, %%xmm0, %%ymm0, %%ymm0\n\t" FILL(1) FILL(2) FILL(3) FILL(4) FILL(5) FILL(6) FILL(7)
                         FILL(8) FILL(9) FILL(10) FILL(11) FILL(12) FILL(13) FILL(14) FILL(15)
                     :
                     : "r"(bits)
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                       "xmm12", "xmm13", "xmm14", "xmm15");
#else
#define FILL(n) "movi v" #n ".16b, #0x7e\n\t"
    __asm__ volatile(FILL(0) FILL(1) FILL(2) FILL(3) FILL(4) FILL(5) FILL(6) FILL(7) FILL(16) FILL(17) FILL(18) FILL(19)
                         FILL(20) FILL(21) FILL(22) FILL(23) FILL(24) FILL(25) FILL(26) FILL(27) FILL(28) FILL(29) FILL(30)
                             FILL(31)
                     :
                     :
                     : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17", "v18", "v19", "v20", "v21", "v22",
                       "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");
#endif
}

static void leave_vectors(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx")) {
        __asm__ volatile("vzeroupper"); /* else the SSE instructions that follow may be slow */
    }
#endif
}

#else

static void fill_vectors(void) {
}

static void leave_vectors(void) {
}

#endif

void convention_call(abi_pointer *function, const uint64_t words[ABI_WORDS], void *stack, char *text, size_t size) {
    struct found found = {0};
    text[0] = '\0';
    if (stack != NULL) {
        fill_vectors();
    }
    q8a8_convention_call(words, &found, function, stack);
    leave_vectors();
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
enum { FILLED = 1 << 14 }; /* bytes at the top that are not zero, as in a running program */
enum { ALIGNMENT = 16 };   /* of the stack at a call: a kernel that needs more must see to it */

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
    memset(stack_start + STACK_SIZE - FILLED, ABI_UNDEFINED, FILLED);
    return stack_start + STACK_SIZE - ALIGNMENT;
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
