/* ggml KIND N REPEATS: the product of ours.c by functions of ggml, linked with their object files (see arm_cost.py). */
#include "cost.h"

#include <sys/prctl.h>

void quantize_row_q8_0(const float *x, void *y, int64_t k);
void ggml_vec_dot_q8_0_q8_0(int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy, size_t by, int nrc);

/* Defined by a file of ggml that is not linked: the bytes of a vector (PR_SVE_GET_VL). */
int ggml_cpu_get_sve_cnt(void);

int ggml_cpu_get_sve_cnt(void) {
    enum { GET_SVE_LENGTH = 51, SVE_LENGTH_MASK = 0xffff };
    return prctl(GET_SVE_LENGTH, 0, 0, 0, 0) & SVE_LENGTH_MASK;
}

/* "Repacked": four rows of weights interleaved in groups of four or eight, as here a tile's are. */
typedef void quantize_fn(const float *x, void *y, int64_t k);
typedef void product_fn(int n, float *s, size_t bs, const void *vx, const void *vy, int nr, int nc);
quantize_fn ggml_quantize_mat_q8_0_4x4, ggml_quantize_mat_q8_0_4x8;
product_fn ggml_gemv_q8_0_4x4_q8_0, ggml_gemv_q8_0_4x8_q8_0, ggml_gemm_q8_0_4x4_q8_0, ggml_gemm_q8_0_4x8_q8_0;

enum { ROW = BLOCKS * BLOCK_BYTES };
static uint8_t columns[MOST_N * ROW];

/* ggml's order: rows of weights inside, rows of x outside, in pairs where the kernel takes pairs. */
static void by_rows(int n, int nrc) {
    for (int i = 0; i < n; ++i) {
        quantize_row_q8_0(x + i * K, columns + i * ROW, K);
    }
    for (int i = 0; i < n; i += nrc) {
        for (int j = 0; j < M; j += nrc) {
            ggml_vec_dot_q8_0_q8_0(K, out + i * M + j, M, weights + j * ROW, ROW, columns + i * ROW, ROW, nrc);
        }
    }
}

static void repacked(int n, quantize_fn *quantize, product_fn *matrix, product_fn *vector) {
    const int fours = n / 4 * 4;
    for (int i = 0; i < fours; i += 4) {
        quantize(x + i * K, columns + i * ROW, K);
    }
    if (fours != 0) {
        matrix(K, out, M, weights, columns, fours, M);
    }
    for (int i = fours; i < n; ++i) {
        quantize_row_q8_0(x + i * K, columns + i * ROW, K);
        vector(K, out + i * M, M, weights, columns + i * ROW, 1, M);
    }
}

int main(int argc, char **argv) {
    if (argc != 4) {
        return usage("ggml rows|pairs|4x4|4x8 N REPEATS");
    }
    fill();
    const int n = rows_of_x(argv[2]);
    for (int i = atoi(argv[3]); i > 0; --i) {
        if (strcmp(argv[1], "rows") == 0) {
            by_rows(n, 1);
        } else if (strcmp(argv[1], "pairs") == 0) {
            by_rows(n, 2);
        } else if (strcmp(argv[1], "4x4") == 0) {
            repacked(n, ggml_quantize_mat_q8_0_4x4, ggml_gemm_q8_0_4x4_q8_0, ggml_gemv_q8_0_4x4_q8_0);
        } else if (strcmp(argv[1], "4x8") == 0) {
            repacked(n, ggml_quantize_mat_q8_0_4x8, ggml_gemm_q8_0_4x8_q8_0, ggml_gemv_q8_0_4x8_q8_0);
        } else {
            return usage("ggml rows|pairs|4x4|4x8 N REPEATS");
        }
    }
    return 0;
}
