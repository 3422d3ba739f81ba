/* Mutants that read or write where they must not (Q8A8-MEM-1, Q8A8-MEM-2, Q8A8-MEM-3). */
#include "plain.h"

/* A loop that loads the next block's first byte before it asks whether there is a next block. */
static void over_read_byte(DOT_PARAMETERS) {
    plain_vec_dot(DOT_ARGUMENTS);
    mutant_load((const uint8_t *)vx + mutant_row_bytes(n), 1);
}
MUTANT(over_read_byte, .vec_dot = over_read_byte);

/* A pipelined loop that loads block b + 1 while it computes block b, for the last b too. */
static void over_read_block(DOT_REAL_PARAMETERS) {
    plain_vec_dot_real(DOT_REAL_ARGUMENTS);
    mutant_load((const uint8_t *)vy + n / QK8_A8 * Q8A8_V2_BLOCK_BYTES, Q8A8_V2_BLOCK_BYTES);
}
MUTANT(over_read_block, .vec_dot_real = over_read_block);

/* A remainder of five blocks: the last two codes of y are loaded as the lower half of a word. */
static void over_read_remainder(DOT_PARAMETERS) {
    plain_vec_dot(DOT_ARGUMENTS);
    if (n / QK8_A8 % 8 == 5) {
        mutant_load((const uint8_t *)vy + mutant_row_bytes(n) - 2 + mutant_zero, 4);
    }
}
MUTANT(over_read_remainder, .vec_dot = over_read_remainder);

/* The odd tail is loaded as a whole vector of eight floats, and masked afterwards. */
static void over_read_vector(ACTIVATION_PARAMETERS) {
    plain_quantize_activation(ACTIVATION_ARGUMENTS);
    if (size % 8 != 0) {
        mutant_load(input + size / 8 * 8, 8 * sizeof *input);
    }
}
MUTANT(over_read_vector, .quantize_activation = over_read_vector);

/* The first block is loaded before the loop, whether there is one or not. */
static void over_read_empty(ROW_PARAMETERS) {
    mutant_load(x, QK8_A8 * sizeof *x);
    plain_quantize_row(ROW_ARGUMENTS);
}
MUTANT(over_read_empty, .quantize_row = over_read_empty);

/* The scale is loaded as the upper half of a 32-bit word, which begins two bytes before the block. */
static void under_read(DEQUANTIZE_PARAMETERS) {
    plain_dequantize_row(DEQUANTIZE_ARGUMENTS);
    if (k != 0) {
        mutant_load((const uint8_t *)x - 2 - mutant_zero, 4);
    }
}
MUTANT(under_read, .dequantize_row = under_read);

/* A zero ends the codes, as if they were a string. */
static void over_write_byte(ACTIVATION_PARAMETERS) {
    plain_quantize_activation(ACTIVATION_ARGUMENTS);
    output[size + (int)mutant_zero] = 0;
}
MUTANT(over_write_byte, .quantize_activation = over_write_byte);

/* The scale is stored as a 32-bit word. */
static void over_write_scale(ACTIVATION_PARAMETERS) {
    plain_quantize_activation(ACTIVATION_ARGUMENTS);
    const uint32_t word = *scale;
    memcpy(scale + mutant_zero, &word, sizeof word);
}
MUTANT(over_write_scale, .quantize_activation = over_write_scale);

/* A block is stored in 16-byte vectors, three of them: the next block overwrites what is too much, the last has none. */
static void over_write_vector(ROW_PARAMETERS) {
    plain_quantize_row(ROW_ARGUMENTS);
    if (k != 0) {
        memset((uint8_t *)y + mutant_row_bytes(k) + mutant_zero, 0, 3 * 16 - Q8A8_BLOCK_BYTES);
    }
}
MUTANT(over_write_vector, .quantize_row = over_write_vector);

/* The accumulator's four lanes are stored, then their sum over the first. */
static void over_write_lanes(DOT_PARAMETERS) {
    memset(s + mutant_zero, 0, 4 * sizeof *s);
    plain_vec_dot(DOT_ARGUMENTS);
}
MUTANT(over_write_lanes, .vec_dot = over_write_lanes);

/* Two blocks at a time; behind an odd last block lies a block of zeros. */
static void over_write_block(DEQUANTIZE_PARAMETERS) {
    plain_dequantize_row(DEQUANTIZE_ARGUMENTS);
    if (k / QK8_A8 % 2 != 0) {
        memset(y + k + mutant_zero, 0, QK8_A8 * sizeof *y);
    }
}
MUTANT(over_write_block, .dequantize_row = over_write_block);

/* Scale and the two bytes before it are stored as one word; the block before is written later. */
static void under_write(ROW_PARAMETERS) {
    memset((uint8_t *)y - 2 - mutant_zero, 0, 2);
    plain_quantize_row(ROW_ARGUMENTS);
}
MUTANT(under_write, .quantize_row_ref = under_write);

/* The elements are scaled where they are. */
static void writes_input(ACTIVATION_PARAMETERS) {
    plain_quantize_activation(ACTIVATION_ARGUMENTS);
    float *x = mutant_writable(input);
    for (int j = 0; j < size; ++j) {
        x[j] = output[j];
    }
}
MUTANT(writes_input, .quantize_activation = writes_input);

/* Blocks that are done are marked by the sign of their scale; the marks are taken away in the end. */
static void restores_input(DOT_PARAMETERS) {
    volatile uint8_t *x = mutant_writable(vx);
    for (int b = 0; b < n / QK8_A8; ++b) {
        x[b * Q8A8_BLOCK_BYTES + 1] ^= 0x80;
    }
    for (int b = 0; b < n / QK8_A8; ++b) {
        x[b * Q8A8_BLOCK_BYTES + 1] ^= 0x80;
    }
    plain_vec_dot(DOT_ARGUMENTS);
}
MUTANT(restores_input, .vec_dot = restores_input);
