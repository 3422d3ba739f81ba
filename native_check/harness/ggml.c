#include "ggml.h"
#include "crash.h"
#include "exit.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Numbers of ggml's enumerations, which never change. */
enum { F32 = 0, Q8_0 = 8, I32 = 26, I64 = 27, PRECISION_F32 = 10 };

enum {
    MAX_LIBRARIES = 16,
    MAX_DEVICES = 16,
    OBJECTS = 64, /* tensors and graphs of a call's context at most */
};

struct parameters { /* struct ggml_init_params */
    size_t mem_size;
    void *mem_buffer;
    bool no_alloc;
};

/* The functions of ggml's interface that are used. */
static struct {
    void *(*init)(struct parameters);
    void (*free)(void *);
    size_t (*tensor_overhead)(void), (*graph_overhead)(void);
    void *(*new_tensor_2d)(void *, int, int64_t, int64_t);
    void *(*mul_mat)(void *, void *, void *);
    void (*mul_mat_set_prec)(void *, int);
    void *(*cpy)(void *, void *, void *);
    void *(*get_rows)(void *, void *, void *);
    void *(*set_rows)(void *, void *, void *, void *);
    void *(*new_graph)(void *);
    void (*build_forward_expand)(void *, void *);
    size_t (*reg_dev_count)(void *);
    void *(*reg_dev_get)(void *, size_t);
    void *(*reg_get_proc_address)(void *, const char *);
    const char *(*dev_name)(void *), *(*dev_description)(void *);
    void *(*dev_init)(void *, const char *);
    bool (*dev_supports_op)(void *, const void *);
    void *(*alloc)(void *, void *), *(*alloc_from_buft)(void *, void *);
    const char *(*buft_name)(void *);
    void (*buffer_free)(void *);
    void (*tensor_set)(void *, const void *, size_t, size_t);
    void (*tensor_get)(const void *, void *, size_t, size_t);
    int (*graph_compute)(void *, void *);
} api;

static const struct {
    const char *name;
    void *where;
    bool later; /* only newer versions have it */
} wanted[] = {
    {"ggml_init", &api.init, false},
    {"ggml_free", &api.free, false},
    {"ggml_tensor_overhead", &api.tensor_overhead, false},
    {"ggml_graph_overhead", &api.graph_overhead, false},
    {"ggml_new_tensor_2d", &api.new_tensor_2d, false},
    {"ggml_mul_mat", &api.mul_mat, false},
    {"ggml_mul_mat_set_prec", &api.mul_mat_set_prec, false},
    {"ggml_cpy", &api.cpy, false},
    {"ggml_get_rows", &api.get_rows, false},
    {"ggml_set_rows", &api.set_rows, true},
    {"ggml_new_graph", &api.new_graph, false},
    {"ggml_build_forward_expand", &api.build_forward_expand, false},
    {"ggml_backend_reg_dev_count", &api.reg_dev_count, false},
    {"ggml_backend_reg_dev_get", &api.reg_dev_get, false},
    {"ggml_backend_reg_get_proc_address", &api.reg_get_proc_address, false},
    {"ggml_backend_dev_name", &api.dev_name, false},
    {"ggml_backend_dev_description", &api.dev_description, false},
    {"ggml_backend_dev_init", &api.dev_init, false},
    {"ggml_backend_dev_supports_op", &api.dev_supports_op, false},
    {"ggml_backend_alloc_ctx_tensors", &api.alloc, false},
    {"ggml_backend_alloc_ctx_tensors_from_buft", &api.alloc_from_buft, false},
    {"ggml_backend_buft_name", &api.buft_name, false},
    {"ggml_backend_buffer_free", &api.buffer_free, false},
    {"ggml_backend_tensor_set", &api.tensor_set, false},
    {"ggml_backend_tensor_get", &api.tensor_get, false},
    {"ggml_backend_graph_compute", &api.graph_compute, false},
};

/* Return a backend's entry of the registry: a loadable backend's, or a linked one's. */
static const char *const registries[] = {
    "ggml_backend_init",     "ggml_backend_cpu_reg",    "ggml_backend_vk_reg",   "ggml_backend_cuda_reg",
    "ggml_backend_metal_reg", "ggml_backend_opencl_reg", "ggml_backend_sycl_reg", "ggml_backend_cann_reg",
    "ggml_backend_blas_reg", "ggml_backend_webgpu_reg",
};

/* The operations that are each function of the interface, the first that a device supports being taken. */
enum route { QUANTIZE_CPY, QUANTIZE_ROWS, DEQUANTIZE_CPY, DEQUANTIZE_ROWS, MULTIPLY, ROUTES };

static const struct {
    const char *name;
    unsigned function; /* in abi_functions */
    bool rows;
} routes[ROUTES] = {
    {"CPY F32 -> Q8_0", 1, false},      {"SET_ROWS F32 -> Q8_0", 1, true}, {"CPY Q8_0 -> F32", 2, false},
    {"GET_ROWS Q8_0 -> F32", 2, true}, {"MUL_MAT Q8_0 x F32", 6, false},
};

static void *libraries[MAX_LIBRARIES];
static size_t library_count;

static struct device {
    void *address, *registry;
} found[MAX_DEVICES];
static struct target_device devices[MAX_DEVICES];
static size_t device_count;

static const struct device *chosen;
static void *backend;
static void *weights_buft; /* an extra kind of buffer for weights, or NULL */
static bool wants_f32;
static enum route taken[ABI_FUNCTIONS];
static const char *failure;

/* The tensors of an operation; weights that lie in the extra kind of buffer have a context of their own. */
struct operation {
    void *context, *weights, *weights_buffer;
    void *inputs[2], *result;
    bool placed; /* weights, if they are to lie there */
};

static void *new_context(void) {
    return api.init((struct parameters){api.tensor_overhead() * OBJECTS + api.graph_overhead(), NULL, true});
}

static struct operation make(enum route route, int64_t k, int64_t m, int64_t n, bool repacked) {
    struct operation made = {.context = new_context(), .weights = repacked ? new_context() : NULL, .placed = true};
    void *context = made.context;
    if (route == MULTIPLY) {
        made.inputs[0] = api.new_tensor_2d(repacked ? made.weights : context, Q8_0, k, m);
        made.inputs[1] = api.new_tensor_2d(context, F32, k, n);
        made.result = api.mul_mat(context, made.inputs[0], made.inputs[1]);
        if (wants_f32) {
            api.mul_mat_set_prec(made.result, PRECISION_F32);
        }
    } else {
        const bool quantizes = routes[route].function == 1;
        made.inputs[0] = api.new_tensor_2d(context, quantizes ? F32 : Q8_0, k, 1);
        if (route == DEQUANTIZE_ROWS) {
            made.inputs[1] = api.new_tensor_2d(context, I32, 1, 1);
            made.result = api.get_rows(context, made.inputs[0], made.inputs[1]);
        } else {
            void *target = api.new_tensor_2d(context, quantizes ? Q8_0 : F32, k, 1);
            if (route == QUANTIZE_ROWS) {
                made.inputs[1] = api.new_tensor_2d(context, I64, 1, 1);
                made.result = api.set_rows(context, target, made.inputs[0], made.inputs[1]);
            } else {
                made.result = api.cpy(context, made.inputs[0], target);
            }
        }
    }
    if (repacked) {
        made.weights_buffer = api.alloc_from_buft(made.weights, weights_buft);
        made.placed = made.weights_buffer != NULL;
    }
    return made;
}

static void unmake(struct operation *made) {
    if (made->weights_buffer != NULL) {
        api.buffer_free(made->weights_buffer);
    }
    if (made->weights != NULL) {
        api.free(made->weights);
    }
    api.free(made->context);
}

static bool supports(const struct device *device, enum route route, int64_t k, int64_t m) {
    if (route == QUANTIZE_ROWS && api.set_rows == NULL) {
        return false;
    }
    struct operation made = make(route, k, m, 1, weights_buft != NULL && device == chosen && route == MULTIPLY);
    const bool supported = made.placed && api.dev_supports_op(device->address, made.result);
    unmake(&made);
    return supported;
}

/* Whether weights of a shape can lie in the extra kind of buffer; others lie elsewhere. */
static bool repacks(int64_t k, int64_t m) {
    static int64_t last_k, last_m;
    static bool last;
    if (weights_buft != NULL && (k != last_k || m != last_m)) {
        last = supports(chosen, MULTIPLY, k, m);
        last_k = k;
        last_m = m;
    }
    return last;
}

/* Compute an operation on the device: data are copied to its buffers and back. */
static void compute(enum route route, int64_t k, int64_t m, int64_t n, const void *const inputs[2],
                    const size_t bytes[2], void *output, size_t output_bytes) {
    struct operation made = make(route, k, m, n, route == MULTIPLY && repacks(k, m));
    void *graph = api.new_graph(made.context);
    api.build_forward_expand(graph, made.result);
    void *buffer = made.placed ? api.alloc(made.context, backend) : NULL;
    if (buffer == NULL) {
        failure = "the device has not enough memory";
    } else {
        for (size_t i = 0; i < 2 && made.inputs[i] != NULL; ++i) {
            api.tensor_set(made.inputs[i], inputs[i], 0, bytes[i]);
        }
        if (api.graph_compute(backend, graph) != 0) {
            failure = "the device failed";
        } else {
            api.tensor_get(made.result, output, 0, output_bytes);
        }
        api.buffer_free(buffer);
    }
    unmake(&made);
}

static const int64_t first_row; /* an index of 32 or 64 bits */

static void quantize(const float *x, void *y, int64_t k) {
    if (k > 0) {
        const enum route route = taken[1];
        compute(route, k, 1, 1, (const void *[]){x, &first_row}, (size_t[]){4 * (size_t)k, sizeof(int64_t)}, y,
                (size_t)k / QK8_A8 * Q8A8_BLOCK_BYTES);
    }
}

static void dequantize(const void *x, float *y, int64_t k) {
    if (k > 0) {
        compute(taken[2], k, 1, 1, (const void *[]){x, &first_row},
                (size_t[]){(size_t)k / QK8_A8 * Q8A8_BLOCK_BYTES, sizeof(int32_t)}, y, 4 * (size_t)k);
    }
}

/* Products without an output, or without elements, are not given to the device, which has no such tensors. */
static void multiply(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out) {
    const size_t output = 4 * (size_t)(m * n);
    if (k > 0 && output > 0) {
        compute(MULTIPLY, k, m, n, (const void *[]){w, x},
                (size_t[]){(size_t)(m * k) / QK8_A8 * Q8A8_BLOCK_BYTES, 4 * (size_t)(n * k)}, out, output);
    } else if (output > 0) {
        memset(out, 0, output);
    }
}

static void *find_symbol(const char *name) {
    void *address = NULL;
    for (size_t i = 0; i < library_count && address == NULL; ++i) {
        address = dlsym(libraries[i], name);
    }
    return address;
}

/* Load the libraries; returns the last one's path. */
static const char *load(const char *paths) {
    char *rest = strdup(paths), *path = NULL;
    if (rest == NULL) {
        fail("not enough memory");
    }
    for (char *next; (next = strtok(path == NULL ? rest : NULL, ",")) != NULL;) {
        path = next;
        void *library = library_count < MAX_LIBRARIES ? dlopen(path, RTLD_NOW | RTLD_GLOBAL) : NULL;
        if (library == NULL) {
            fail("%s", library_count < MAX_LIBRARIES ? dlerror() : "--ggml: too many libraries");
        }
        libraries[library_count++] = library;
    }
    if (path == NULL) {
        fail("--ggml: expected PATH[,PATH...]");
    }
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; ++i) {
        void *address = find_symbol(wanted[i].name);
        if (address == NULL && !wanted[i].later) {
            fail("%s has no %s: name libggml-base as well, before the backend", paths, wanted[i].name);
        }
        memcpy(wanted[i].where, &address, sizeof address);
    }
    return path;
}

static void find_devices(void) {
    for (size_t r = 0; r < sizeof registries / sizeof *registries; ++r) {
        for (size_t i = 0; i < library_count; ++i) {
            void *address = dlsym(libraries[i], registries[r]), *(*entry)(void) = NULL;
            memcpy(&entry, &address, sizeof entry);
            void *registry = entry != NULL ? entry() : NULL;
            const size_t count = registry != NULL ? api.reg_dev_count(registry) : 0;
            for (size_t d = 0; d < count && device_count < MAX_DEVICES; ++d) {
                void *device = api.reg_dev_get(registry, d);
                bool known = false; /* a library finds the functions of those that it needs, too */
                for (size_t other = 0; other < device_count; ++other) {
                    known = known || strcmp(devices[other].name, api.dev_name(device)) == 0;
                }
                if (!known) {
                    found[device_count] = (struct device){device, registry};
                    devices[device_count++].name = api.dev_name(device);
                }
            }
        }
    }
}

static size_t choose_device(const char *name) {
    char names[400] = "";
    if (device_count == 0) {
        fail("the libraries have no device: name a backend's, such as libggml-cpu.so");
    }
    for (size_t i = 0; i < device_count; ++i) {
        if (name == NULL || strcmp(devices[i].name, name) == 0) {
            return i;
        }
        const size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i != 0 ? ", " : "", devices[i].name);
    }
    fail("there is no device %s; there is %s", name, names);
}

static void set_threads(const char *text) {
    const char *said = text != NULL ? text : getenv("GGML_N_THREADS");
    char *end = NULL;
    const long threads = said != NULL ? strtol(said, &end, 10) : 1;
    if (threads < 1 || threads > 512 || (end != NULL && *end != '\0')) {
        fail("--threads: expected 1 to 512, got %s", said);
    }
    void *address = api.reg_get_proc_address(chosen->registry, "ggml_backend_set_n_threads");
    void (*set)(void *, int) = NULL;
    memcpy(&set, &address, sizeof set);
    if (set != NULL) { /* else it is no CPU */
        set(backend, (int)threads);
    }
}

/* The CPU's extra kind of buffer for repacked weights, CPU_REPACK. */
static void *find_repack(void) {
    void *address = api.reg_get_proc_address(chosen->registry, "ggml_backend_dev_get_extra_bufts");
    void **(*kinds_of)(void *) = NULL;
    memcpy(&kinds_of, &address, sizeof kinds_of);
    void **kinds = kinds_of != NULL ? kinds_of(chosen->address) : NULL;
    for (; kinds != NULL && *kinds != NULL; ++kinds) {
        if (strstr(api.buft_name(*kinds), "REPACK") != NULL) {
            return *kinds;
        }
    }
    fail("the device %s has no buffer repack", api.dev_name(chosen->address));
}

/* Whether an option has its second value; the first or none is the default. */
static bool second(const char *option, const char *value, const char *usual, const char *other) {
    if (value != NULL && strcmp(value, usual) != 0 && strcmp(value, other) != 0) {
        fail("--%s: expected %s or %s, got %s", option, usual, other, value);
    }
    return value != NULL && strcmp(value, other) == 0;
}

struct target target_ggml(const struct ggml_options *options) {
    static char name[400];
    const bool repack = second("buffer", options->buffer, "default", "repack");
    const bool rows = second("copy", options->copy, "cpy", "rows");
    wants_f32 = second("precision", options->precision, "default", "f32");
    crash_context("the libraries' initialization");
    const char *path = load(options->paths), *slash = strrchr(path, '/');
    find_devices();
    const size_t number = choose_device(options->device);
    chosen = &found[number];
    backend = api.dev_init(chosen->address, NULL);
    if (backend == NULL) {
        fail("the device %s cannot be initialized", devices[number].name);
    }
    set_threads(options->threads);
    weights_buft = repack ? find_repack() : NULL;
    struct target target = {.name = name, .version = "", .path = path, .devices = devices, .device_count = device_count};
    target.failure = &failure;
    snprintf(name, sizeof name, "%s, device %s (%s)", slash != NULL ? slash + 1 : path, devices[number].name,
             api.dev_description(chosen->address));
    static abi_pointer *const functions[ABI_FUNCTIONS] = {
        [1] = (abi_pointer *)quantize, [2] = (abi_pointer *)dequantize, [6] = (abi_pointer *)multiply};
    for (size_t i = 0; i < device_count; ++i) {
        for (enum route route = 0; route < ROUTES; ++route) {
            const unsigned function = routes[route].function;
            if (!supports(&found[i], route, 64, 8)) {
                continue;
            }
            devices[i].operations[devices[i].operation_count++] = routes[route].name;
            const bool asked = options->copy == NULL || route == MULTIPLY || routes[route].rows == rows;
            if (i == number && asked && target.functions[function] == NULL) {
                taken[function] = route;
                target.functions[function] = functions[function];
            }
        }
    }
    return target;
}
