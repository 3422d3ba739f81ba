#include "plain.h"

volatile size_t mutant_zero;

void plain_quantize_row(ROW_PARAMETERS) {
    q8a8_kernel_scalar.quantize_row(ROW_ARGUMENTS);
}

void plain_dequantize_row(DEQUANTIZE_PARAMETERS) {
    q8a8_kernel_scalar.dequantize_row(DEQUANTIZE_ARGUMENTS);
}

void plain_quantize_activation(ACTIVATION_PARAMETERS) {
    q8a8_kernel_scalar.quantize_activation(ACTIVATION_ARGUMENTS);
}

void plain_vec_dot(DOT_PARAMETERS) {
    q8a8_kernel_scalar.vec_dot(DOT_ARGUMENTS);
}

void plain_vec_dot_real(DOT_REAL_PARAMETERS) {
    q8a8_kernel_scalar.vec_dot_real(DOT_REAL_ARGUMENTS);
}

void plain_mul_mat(MUL_MAT_PARAMETERS) {
    q8a8_kernel_scalar.mul_mat(MUL_MAT_ARGUMENTS);
}

void mutant_load(const void *from, size_t count) {
    const volatile uint8_t *bytes = from;
    for (size_t i = 0; i < count; ++i) {
        (void)bytes[i];
    }
}

void *mutant_writable(const void *input) {
    void *memory;
    memcpy(&memory, &input, sizeof memory);
    return memory;
}
