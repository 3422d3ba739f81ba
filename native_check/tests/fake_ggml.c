/*
 * A library with as much of ggml's interface as the harness and the suite's worker use, and a device that
 * computes nothing: what a real device does seldom, on demand. FAKE_GGML says what:
 *
 *     no-backend    the device cannot be initialized
 *     no-memory     it has no memory for tensors
 *     fails         a graph is not computed
 *     no-op         it supports no operation
 *     no-repack     memory of the extra kind of buffer, which it has then, is full
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct parameters {
    size_t size;
    void *memory;
    bool no_alloc;
};

static char thing; /* what every handle points to */

static bool is(const char *fault) {
    const char *said = getenv("FAKE_GGML");
    return said != NULL && strcmp(said, fault) == 0;
}

static void *other_than(const char *fault) {
    return is(fault) ? NULL : &thing;
}

#define EXPORT __attribute__((visibility("default")))
#define HANDLE(name, ...) \
    EXPORT void *name(__VA_ARGS__); \
    EXPORT void *name(__VA_ARGS__)

HANDLE(ggml_init, struct parameters given) {
    (void)given;
    return &thing;
}
HANDLE(ggml_new_tensor_2d, void *context, int type, int64_t columns, int64_t rows) {
    (void)type, (void)columns, (void)rows;
    return context;
}
HANDLE(ggml_mul_mat, void *context, void *w, void *x) {
    (void)w, (void)x;
    return context;
}
HANDLE(ggml_cpy, void *context, void *from, void *to) {
    (void)from, (void)to;
    return context;
}
HANDLE(ggml_get_rows, void *context, void *from, void *row) {
    (void)from, (void)row;
    return context;
}
HANDLE(ggml_new_graph, void *context) {
    return context;
}
HANDLE(ggml_backend_init, void) {
    return &thing;
}
HANDLE(ggml_backend_reg_dev_get, void *registry, size_t device) {
    (void)device;
    return registry;
}
HANDLE(ggml_backend_dev_init, void *device, const char *text) {
    (void)device, (void)text;
    return other_than("no-backend");
}
HANDLE(ggml_backend_alloc_ctx_tensors, void *context, void *backend) {
    (void)context, (void)backend;
    return other_than("no-memory");
}
HANDLE(ggml_backend_alloc_ctx_tensors_from_buft, void *context, void *buffer_kind) {
    (void)context, (void)buffer_kind;
    return NULL;
}

static void **extra(void *device) {
    static void *kinds[2];
    (void)device;
    kinds[0] = is("no-repack") ? &thing : NULL;
    return kinds;
}
HANDLE(ggml_backend_reg_get_proc_address, void *registry, const char *name) {
    void **(*function)(void *) = extra;
    void *address = NULL;
    (void)registry;
    if (strcmp(name, "ggml_backend_dev_get_extra_bufts") == 0) {
        memcpy(&address, &function, sizeof address);
    }
    return address;
}

EXPORT size_t ggml_tensor_overhead(void);
EXPORT size_t ggml_tensor_overhead(void) {
    return 8;
}
EXPORT size_t ggml_graph_overhead(void);
EXPORT size_t ggml_graph_overhead(void) {
    return 8;
}
EXPORT size_t ggml_backend_reg_dev_count(void *registry);
EXPORT size_t ggml_backend_reg_dev_count(void *registry) {
    (void)registry;
    return 1;
}
EXPORT const char *ggml_backend_dev_name(void *device);
EXPORT const char *ggml_backend_dev_name(void *device) {
    (void)device;
    return "FAKE";
}
EXPORT const char *ggml_backend_dev_description(void *device);
EXPORT const char *ggml_backend_dev_description(void *device) {
    (void)device;
    return "a device that computes nothing";
}
EXPORT const char *ggml_backend_buft_name(void *buffer_kind);
EXPORT const char *ggml_backend_buft_name(void *buffer_kind) {
    (void)buffer_kind;
    return "FAKE_REPACK";
}
EXPORT bool ggml_backend_dev_supports_op(void *device, const void *operation);
EXPORT bool ggml_backend_dev_supports_op(void *device, const void *operation) {
    (void)device, (void)operation;
    return !is("no-op");
}
EXPORT int ggml_backend_graph_compute(void *backend, void *graph);
EXPORT int ggml_backend_graph_compute(void *backend, void *graph) {
    (void)backend, (void)graph;
    return is("fails") ? 1 : 0;
}

EXPORT void ggml_free(void *context);
EXPORT void ggml_free(void *context) {
    (void)context;
}
EXPORT void ggml_mul_mat_set_prec(void *product, int precision);
EXPORT void ggml_mul_mat_set_prec(void *product, int precision) {
    (void)product, (void)precision;
}
EXPORT void ggml_build_forward_expand(void *graph, void *result);
EXPORT void ggml_build_forward_expand(void *graph, void *result) {
    (void)graph, (void)result;
}
EXPORT void ggml_backend_buffer_free(void *buffer);
EXPORT void ggml_backend_buffer_free(void *buffer) {
    (void)buffer;
}
EXPORT void ggml_backend_tensor_set(void *tensor, const void *data, size_t offset, size_t size);
EXPORT void ggml_backend_tensor_set(void *tensor, const void *data, size_t offset, size_t size) {
    (void)tensor, (void)data, (void)offset, (void)size;
}
EXPORT void ggml_backend_tensor_get(const void *tensor, void *data, size_t offset, size_t size);
EXPORT void ggml_backend_tensor_get(const void *tensor, void *data, size_t offset, size_t size) {
    (void)tensor, (void)offset;
    memset(data, 0, size);
}
