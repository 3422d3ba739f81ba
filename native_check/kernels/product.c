#if defined(__linux__)
#define _DEFAULT_SOURCE
#include <sys/mman.h> /* MADV_HUGEPAGE */
#endif

#include "product.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#if !defined(Q8A8_NO_THREADS)
#include <pthread.h>
#endif

enum {
    LINE = 64,            /* bytes; the alignment of packed weights */
    HUGE_PAGE = 1 << 21,  /* bytes */
    MAX_THREADS = 64,     /* of a product */
    CHUNK = 32,           /* blocks of a row that a tile multiplies at once, unless they are more than CHUNK_BYTES: */
    CHUNK_BYTES = 1 << 15, /* the weights then stay in the first cache, or are next to it */
    COLUMNS = 256,         /* rows of x that are quantized at once: they stay in the second cache */
    /* of the product without packed weights, whose tiles and columns are on the stack */
    STACK_CHUNK = 8,
    STACK_COLUMNS = 32,
    MAX_COLUMN_BYTES = 128,
    EDGE_COLUMNS = 8, /* rows of x at once at the last tile, where m is not a multiple of its rows; not fewer than a
                       * kernel's `columns` */
};

struct q8a8_packed {
    const struct q8a8_product *product;
    int64_t m, k;
    size_t rows; /* of a tile */
    uint8_t *tiles;
};

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

static size_t tile_bytes(size_t rows, size_t blocks) {
    const size_t bytes = rows * blocks * Q8A8_BLOCK_BYTES;
    return (bytes + LINE - 1) / LINE * LINE;
}

/* Interleaves blocks of `present` rows, `row_bytes` apart, as a tile; rows that w does not have are zero. */
static void pack_tile(const struct q8a8_product *product, size_t rows, size_t present, const uint8_t *w,
                      size_t row_bytes, size_t blocks, uint8_t *ints, uint16_t *scales) {
    const size_t group = product->group;
    const uint8_t flip = product->flip;
    for (size_t r = 0; r < rows; ++r) {
        for (size_t b = 0; b < blocks; ++b) {
            uint8_t block[Q8A8_BLOCK_BYTES] = {0};
            if (r < present) {
                memcpy(block, w + r * row_bytes + b * Q8A8_BLOCK_BYTES, sizeof block);
            }
            scales[b * rows + r] = (uint16_t)(block[0] | block[1] << 8);
            for (size_t j = 2; j < sizeof block; ++j) {
                block[j] = (uint8_t)(block[j] + flip);
            }
            uint8_t *to = ints + (b * rows * QK8_A8 + r * group);
            if (group == 4) { /* a constant size is a move */
                for (size_t j = 0; j < QK8_A8; j += 4, to += rows * 4) {
                    memcpy(to, block + 2 + j, 4);
                }
            } else {
                for (size_t j = 0; j < QK8_A8; j += group, to += rows * group) {
                    memcpy(to, block + 2 + j, group);
                }
            }
        }
    }
}

/* A tile times count rows of x; of the tile's rows the first `present` are written to out, rows of x m floats apart. */
static void multiply_tile(const struct q8a8_product *product, size_t rows, size_t present, const uint8_t *ints,
                          const uint16_t *scales, size_t blocks, const uint8_t *columns, size_t apart, size_t count,
                          float *out, size_t m) {
    if (present == rows) {
        product->tile(ints, scales, blocks, columns, apart, count, out, m);
        return;
    }
    float sums[EDGE_COLUMNS * Q8A8_MAX_ROWS] = {0};
    for (size_t first = 0; first < count; first += EDGE_COLUMNS) {
        const size_t some = smaller(EDGE_COLUMNS, count - first);
        for (size_t c = 0; c < some; ++c) {
            memcpy(sums + c * rows, out + (first + c) * m, present * sizeof *sums);
        }
        product->tile(ints, scales, blocks, columns + first * apart, apart, some, sums, rows);
        for (size_t c = 0; c < some; ++c) {
            memcpy(out + (first + c) * m, sums + c * rows, present * sizeof *sums);
        }
    }
}

/* Weights that come next, from the first cache line to before the last one. It may be any address: nothing is read. */
static void fetch(const uint8_t *weights, size_t first, size_t last) {
    for (size_t line = first; line < last; ++line) {
        __builtin_prefetch((const void *)((uintptr_t)weights + line * LINE));
    }
}

/* In how many parts count rows of x are taken: in the fewest, as equal as can be. */
static size_t parts_of(const struct q8a8_product *product, size_t count) {
    return product->columns != 0 ? (count + product->columns - 1) / product->columns : 1;
}

/* Quantizes blocks of count rows of x, row_floats apart, for multiply_chunk. */
static void quantize_chunk(const struct q8a8_product *product, const float *x, size_t row_floats, size_t blocks,
                           uint8_t *columns, size_t count) {
    for (size_t parts = parts_of(product, count); parts > 0; --parts) {
        const size_t some = (count + parts - 1) / parts;
        const size_t at_once = product->columns != 0 ? 1 : blocks;
        for (size_t b = 0; b < blocks; b += at_once) {
            for (size_t c = 0; c < some; ++c, columns += at_once * product->column_bytes) {
                product->quantize(x + c * row_floats + b * QK8_A8, columns, at_once);
            }
        }
        count -= some;
        x += some * row_floats;
    }
}

/* A chunk of a tile times count rows of x: with each part of these a part of the next chunk is fetched, so that memory is
 * read while the processor multiplies. */
static void multiply_chunk(const struct q8a8_product *product, size_t rows, size_t present, const uint8_t *ints,
                           const uint16_t *scales, size_t blocks, const uint8_t *columns, size_t count, float *out,
                           size_t m, const uint8_t *next) {
    const size_t apart = blocks * product->column_bytes;
    const size_t parts = parts_of(product, count);
    const size_t lines = parts > 1 ? rows * blocks * QK8_A8 / LINE : 0;
    for (size_t part = 0; part < parts; ++part) {
        const size_t some = (count + parts - part - 1) / (parts - part);
        fetch(next, lines * part / parts, lines * (part + 1) / parts);
        multiply_tile(product, rows, present, ints, scales, blocks, columns, apart, some, out, m);
        count -= some;
        columns += some * apart;
        out += some * m;
    }
}

static void clear(float *out, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        out[i] = 0.0f; /* Q8A8-MUL-7 */
    }
}

void q8a8_product_mul_mat(const struct q8a8_product *product, int64_t m, int64_t n, int64_t k, const void *w,
                          const float *x, float *out) {
    _Alignas(LINE) uint8_t ints[STACK_CHUNK * Q8A8_MAX_ROWS * QK8_A8];
    uint16_t scales[STACK_CHUNK * Q8A8_MAX_ROWS];
    _Alignas(LINE) uint8_t columns[STACK_COLUMNS * STACK_CHUNK * MAX_COLUMN_BYTES];
    const size_t outputs = (size_t)m;
    const size_t inputs = (size_t)n;
    const size_t blocks = (size_t)(k / QK8_A8);
    const size_t row_bytes = blocks * Q8A8_BLOCK_BYTES;
    const size_t rows = product->rows();
    clear(out, outputs * inputs);
    for (size_t i = 0; i < inputs; i += STACK_COLUMNS) {
        const size_t count = smaller(STACK_COLUMNS, inputs - i);
        for (size_t b = 0; b < blocks; b += STACK_CHUNK) {
            const size_t some = smaller(STACK_CHUNK, blocks - b);
            quantize_chunk(product, x + (i * blocks + b) * QK8_A8, blocks * QK8_A8, some, columns, count);
            for (size_t j = 0; j < outputs; j += rows) {
                const size_t present = smaller(rows, outputs - j);
                const uint8_t *from = (const uint8_t *)w + j * row_bytes + b * Q8A8_BLOCK_BYTES;
                pack_tile(product, rows, present, from, row_bytes, some, ints, scales);
                multiply_chunk(product, rows, present, ints, scales, some, columns, count, out + i * outputs + j, outputs,
                               ints);
            }
        }
    }
}

/* Memory for weights; where they are large, in huge pages if the system has them: looking up the addresses of small ones
 * takes a quarter of the time of a product by one row. */
static void *new_weights(size_t bytes) {
    const size_t unit = bytes < HUGE_PAGE ? LINE : HUGE_PAGE;
    const size_t size = (bytes / unit + 1) * unit;
    void *memory = aligned_alloc(unit, size);
#if defined(MADV_HUGEPAGE)
    if (memory != NULL && unit == HUGE_PAGE) {
        (void)madvise(memory, size, MADV_HUGEPAGE);
    }
#endif
    return memory;
}

struct q8a8_packed *q8a8_product_pack(const struct q8a8_product *product, int64_t m, int64_t k, const void *w) {
    const size_t rows = product->rows();
    const size_t blocks = (size_t)(k / QK8_A8);
    const size_t tiles = ((size_t)m + rows - 1) / rows;
    const size_t row_bytes = blocks * Q8A8_BLOCK_BYTES;
    const size_t each = tile_bytes(rows, blocks);
    struct q8a8_packed *packed = malloc(sizeof *packed);
    uint8_t *memory = packed != NULL ? new_weights(tiles * each) : NULL;
    if (memory == NULL) {
        free(packed);
        return NULL;
    }
    *packed = (struct q8a8_packed){product, m, k, rows, memory};
    for (size_t t = 0; t < tiles; ++t) {
        uint8_t *ints = memory + t * each;
        void *scales = ints + rows * row_bytes - rows * blocks * 2;
        pack_tile(product, rows, smaller(rows, (size_t)m - t * rows), (const uint8_t *)w + t * rows * row_bytes, row_bytes,
                  blocks, ints, scales);
    }
    return packed;
}

void q8a8_product_free(struct q8a8_packed *packed) {
    if (packed != NULL) {
        free(packed->tiles);
        free(packed);
    }
}

/* A product of packed weights by some quantized rows of x: threads take one tile after the other. */
struct work {
    const struct q8a8_packed *packed;
    const uint8_t *columns; /* chunk after chunk, and in each one row after the other */
    size_t chunk, count;    /* blocks of a chunk; rows */
    float *out; /* of the first of these rows */
    atomic_size_t next;
};

static void *take_tiles(void *argument) {
    struct work *work = argument;
    const struct q8a8_packed *packed = work->packed;
    const struct q8a8_product *product = packed->product;
    const size_t m = (size_t)packed->m;
    const size_t rows = packed->rows;
    const size_t blocks = (size_t)(packed->k / QK8_A8);
    const size_t each = tile_bytes(rows, blocks);
    const size_t tiles = (m + rows - 1) / rows;
    const size_t chunk = work->chunk;
    for (size_t t; (t = atomic_fetch_add(&work->next, 1)) < tiles;) {
        const uint8_t *ints = packed->tiles + t * each;
        const void *scales = ints + rows * blocks * QK8_A8;
        const size_t present = smaller(rows, m - t * rows);
        float *out = work->out + t * rows;
        for (size_t b = 0; b < blocks; b += chunk) {
            const size_t some = smaller(chunk, blocks - b);
            const uint8_t *next = b + some < blocks ? ints + (b + some) * rows * QK8_A8 : ints + each;
            multiply_chunk(product, rows, present, ints + b * rows * QK8_A8, (const uint16_t *)scales + b * rows, some,
                           work->columns + b * work->count * product->column_bytes, work->count, out, m, next);
        }
    }
    return NULL;
}

/* Where a thread cannot be started, the others do its work. */
static void share(struct work *work, int threads) {
#if defined(Q8A8_NO_THREADS)
    (void)threads;
    take_tiles(work);
#else
    pthread_t others[MAX_THREADS];
    size_t started = 0;
    while (started + 1 < (size_t)threads && pthread_create(&others[started], NULL, take_tiles, work) == 0) {
        ++started;
    }
    take_tiles(work);
    while (started > 0) {
        pthread_join(others[--started], NULL);
    }
#endif
}

int q8a8_product_mul_mat_packed(const struct q8a8_packed *packed, int64_t n, const float *x, float *out, int threads) {
    const struct q8a8_product *product = packed->product;
    const size_t m = (size_t)packed->m;
    const size_t blocks = (size_t)(packed->k / QK8_A8);
    const size_t inputs = (size_t)n;
    const size_t most = smaller(COLUMNS, inputs);
    /* with one row of x nothing is read twice */
    const size_t chunk = most > 1 ? smaller(CHUNK, CHUNK_BYTES / (packed->rows * QK8_A8)) : blocks;
    if (threads < 1 || threads > MAX_THREADS) {
        threads = threads < 1 ? 1 : MAX_THREADS;
    }
    clear(out, m * inputs);
    if (m == 0 || inputs == 0 || blocks == 0) {
        return 0;
    }
    uint8_t *columns = malloc(most * blocks * product->column_bytes);
    if (columns == NULL) {
        return -1;
    }
    for (size_t i = 0; i < inputs; i += most) {
        struct work work = {packed, columns, chunk, smaller(most, inputs - i), out + i * m, 0};
        for (size_t b = 0; b < blocks; b += work.chunk) {
            quantize_chunk(product, x + (i * blocks + b) * QK8_A8, blocks * QK8_A8, smaller(work.chunk, blocks - b),
                           columns + b * work.count * product->column_bytes, work.count);
        }
        share(&work, threads);
    }
    free(columns);
    return 0;
}
