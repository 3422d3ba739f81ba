/* The mutants as the harness's table of kernels. */
#include "target.h"

/* First the declarations: of what this program has. */
#define DECLARE(id) extern const struct q8a8_kernel mutant_##id;
#define ANY(id, ...) DECLARE(id)
#if defined(__x86_64__)
#define X86(id, ...) DECLARE(id)
#else
#define X86(id, ...)
#endif
#if defined(__aarch64__)
#define ARM(id, ...) DECLARE(id)
#else
#define ARM(id, ...)
#endif
#include "list.h"
#undef ANY
#undef X86
#undef ARM

/* Then a row for each; what is for another processor has a name and no kernel. */
#define ROW(id, slug, processor) {slug, processor, Q8A8_MUTANT_FLAGS, &mutant_##id},
#define ABSENT(slug, processor) {slug, processor, Q8A8_MUTANT_FLAGS, NULL},
#define ANY(id, slug, ...) ROW(id, slug, "any")
#if defined(__x86_64__)
#define X86(id, slug, ...) ROW(id, slug, "x86_64")
#else
#define X86(id, slug, ...) ABSENT(slug, "x86_64")
#endif
#if defined(__aarch64__)
#define ARM(id, slug, ...) ROW(id, slug, "aarch64")
#else
#define ARM(id, slug, ...) ABSENT(slug, "aarch64")
#endif
const struct kernel_row kernel_rows[] = {
#include "list.h"
    {NULL, NULL, NULL, NULL},
};
