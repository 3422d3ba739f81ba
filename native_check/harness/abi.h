/* The functions under test as data: names, buffers, the check of a call, and the call itself. */
#ifndef Q8A8_HARNESS_ABI_H
#define Q8A8_HARNESS_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ABI_FUNCTIONS = 7, ABI_MAX_BUFFERS = 3 };

/* Any function; cast to its type before the call. */
typedef void abi_pointer(void);

struct abi_buffer {
    const char *name; /* the C parameter's */
    bool output;
    unsigned alignment; /* in bytes, which a kernel may require (Q8A8-MEM-4) */
    unsigned number;    /* bytes of each number in it, as this machine stores them; 1 for bytes and blocks */
};

struct abi_function {
    const char *name;
    size_t buffer_count;
    struct abi_buffer buffers[ABI_MAX_BUFFERS]; /* in the order of the function's pointers */
};

/* The integers of a call; n stands for k and size too. Of the matrix product bs is m and bx is n. */
struct abi_integers {
    int64_t n, bs, bx, by, nrc;
};

/* A function's index is its number in the protocol. */
extern const struct abi_function abi_functions[ABI_FUNCTIONS];

/* The number of the function of that name, or -1. */
int abi_find(const char *name);

/* The reason why a call is invalid (an illegal integer, a buffer shorter than what the call may access), or NULL.
 * The text is valid until the next call. */
const char *abi_refuse(unsigned number, const struct abi_integers *integers, const size_t *lengths);

enum { ABI_WORDS = 8, ABI_UNDEFINED = 0x7e };

/* The arguments of a call, as the words in which they are passed. */
void abi_words(unsigned number, const struct abi_integers *integers, void *const *buffers, uint64_t words[ABI_WORDS]);

/* Gives bytes of words that an int leaves undefined another value than zero, where the machine's convention has such. */
void abi_undefine(unsigned number, uint64_t words[ABI_WORDS]);

void abi_invoke(unsigned number, abi_pointer *function, const struct abi_integers *integers, void *const *buffers);

#endif
