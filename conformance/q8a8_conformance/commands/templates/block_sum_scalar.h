/* The exact sum of a block's 32 products, in plain C (Q8A8-DOT-1). */
static inline int32_t block_sum(const int8_t *x, const int8_t *y) {
    int32_t sum = 0;
    for (int j = 0; j < QK8_A8; ++j) {
        sum += x[j] * y[j];
    }
    return sum;
}
