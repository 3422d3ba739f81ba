/* A quantizer with one mistake: cc -O2 -shared -fPIC -o libmine.so rounds_to_even.c -lm */
#include <math.h>
#include <stdint.h>
#include <string.h>

void quantize_row_q8_a8(const float *x, void *y, int64_t k) {
    uint8_t *block = y;
    for (int64_t b = 0; b < k / 32; ++b, x += 32, block += 34) {
        float amax = 0.0f;
        for (int j = 0; j < 32; ++j) {
            amax = fmaxf(amax, fabsf(x[j]));
        }
        const _Float16 scale = (_Float16)(amax / 127.0f);
        const float inverse = scale != 0 ? 127.0f / amax : 0.0f;
        memcpy(block, &scale, 2);
        for (int j = 0; j < 32; ++j) {
            const int8_t q = (int8_t)rintf(x[j] * inverse);
            block[2 + j] = (uint8_t)q;
        }
    }
}
