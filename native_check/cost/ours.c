/* ours LIBRARY N REPEATS: products of packed weights by N rows of x, by a library of kernels/. */
#include "cost.h"
#include "q8a8.h"

#include <dlfcn.h>

typedef struct q8a8_packed *pack_fn(int64_t m, int64_t k, const void *w);
typedef int product_fn(const struct q8a8_packed *packed, int64_t n, const float *x, float *out, int threads);

int main(int argc, char **argv) {
    if (argc != 4) {
        return usage("ours LIBRARY N REPEATS");
    }
    void *library = dlopen(argv[1], RTLD_NOW);
    if (library == NULL) {
        fprintf(stderr, "ours: %s\n", dlerror());
        return 2;
    }
    pack_fn *pack;
    product_fn *product;
    *(void **)&pack = dlsym(library, "q8a8_pack"); /* as POSIX has it: ISO C has no such conversion */
    *(void **)&product = dlsym(library, "q8a8_mul_mat_packed");
    fill();
    struct q8a8_packed *packed = pack(M, K, weights);
    const int n = rows_of_x(argv[2]);
    for (int i = atoi(argv[3]); i > 0; --i) {
        product(packed, n, x, out, 1);
    }
    return 0;
}
