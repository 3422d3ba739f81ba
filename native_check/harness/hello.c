#include "hello.h"
#include "convention.h"
#include "cpu.h"
#include "fpenv.h"
#include "protocol.h"
#include "sha256.h"

#include <stdio.h>

/* A JSON string, or null. Bytes other than printable ASCII are written as \u00XX, that is as Latin-1, so that the
 * JSON is always valid. */
static void put_string(struct bytes *out, const char *text) {
    if (text == NULL) {
        bytes_put_text(out, "null");
        return;
    }
    bytes_put_u8(out, '"');
    for (; *text != '\0'; ++text) {
        const unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c > 0x7e) {
            char escape[8];
            snprintf(escape, sizeof escape, "\\u%04x", c);
            bytes_put_text(out, escape);
        } else {
            if (c == '"' || c == '\\') {
                bytes_put_u8(out, '\\');
            }
            bytes_put_u8(out, c);
        }
    }
    bytes_put_u8(out, '"');
}

static void put_key(struct bytes *out, const char *key, bool first) {
    if (!first) {
        bytes_put_u8(out, ',');
    }
    put_string(out, key);
    bytes_put_u8(out, ':');
}

/* The next string of a list. */
static void put_item(struct bytes *out, const char *text, bool *first) {
    if (!*first) {
        bytes_put_u8(out, ',');
    }
    *first = false;
    put_string(out, text);
}

static void put_cpu(struct bytes *out) {
    const char *name;
    bool present;
    bool first = true;
    char number[16];

    put_key(out, "arch", true);
    put_string(out, cpu_architecture());
    put_key(out, "features", false);
    bytes_put_u8(out, '[');
    for (size_t i = 0; (name = cpu_feature(i, &present)) != NULL; ++i) {
        if (present) {
            put_item(out, name, &first);
        }
    }
    bytes_put_u8(out, ']');
    put_key(out, "sve_bits", false);
    snprintf(number, sizeof number, "%u", cpu_sve_bits());
    bytes_put_text(out, number);
}

static void put_kernel(struct bytes *out, const char *path) {
    char hex[65];
    if (path == NULL || !sha256_file(path, hex)) {
        bytes_put_text(out, "null");
        return;
    }
    bytes_put_u8(out, '{');
    put_key(out, "path", true);
    put_string(out, path);
    put_key(out, "sha256", false);
    put_string(out, hex);
    bytes_put_u8(out, '}');
}

static void put_loading(struct bytes *out, const struct target *target) {
    if (target->changes == NULL) {
        bytes_put_text(out, "null");
        return;
    }
    bytes_put_u8(out, '[');
    for (size_t i = 0; i < target->change_count; ++i) {
        bytes_put_text(out, i == 0 ? "{" : ",{");
        put_key(out, "when", true);
        put_string(out, target->changes[i].when);
        put_key(out, "what", false);
        put_string(out, target->changes[i].what);
        put_key(out, "detail", false);
        put_string(out, target->changes[i].detail);
        bytes_put_u8(out, '}');
    }
    bytes_put_u8(out, ']');
}

/* The devices, and the operations that each supports. */
static void put_devices(struct bytes *out, const struct target *target) {
    put_key(out, "devices", false);
    bytes_put_u8(out, '[');
    bool first = true;
    for (size_t i = 0; i < target->device_count; ++i) {
        put_item(out, target->devices[i].name, &first);
    }
    bytes_put_u8(out, ']');
    put_key(out, "operations", false);
    bytes_put_u8(out, '{');
    for (size_t i = 0; i < target->device_count; ++i) {
        put_key(out, target->devices[i].name, i == 0);
        bytes_put_u8(out, '[');
        first = true;
        for (size_t o = 0; o < target->devices[i].operation_count; ++o) {
            put_item(out, target->devices[i].operations[o], &first);
        }
        bytes_put_u8(out, ']');
    }
    bytes_put_u8(out, '}');
}

static void put_capabilities(struct bytes *out, const struct target *target) {
    /* Where a device's buffers lie, and in which thread it computes, is its own affair: the last two are its. */
    static const char *const capabilities[] = {"guard",  "readonly", "offset", "threads", "shared",
                                               "overlap", "state", "turns", "rows", "own-thread", "repeat", "ahead"};
    const size_t count = sizeof capabilities / sizeof *capabilities;
    bool first = true;
    for (size_t i = target->devices != NULL ? count - 2 : 0; i < count; ++i) {
        put_item(out, capabilities[i], &first);
    }
    if (convention_known() && target->devices == NULL) {
        put_item(out, "registers", &first);
        put_item(out, "stack", &first);
    }
    if (fpenv_known() && target->devices == NULL) {
        put_item(out, "fenv", &first);
        if (fpenv_flushes()) {
            put_item(out, "flush", &first);
        }
    }
}

void hello_put(struct bytes *out, const struct target *target) {
    const int emulated = cpu_emulated();
    bool first = true;
    char number[16];

    bytes_put_text(out, "H{");
    put_key(out, "protocol", true);
    snprintf(number, sizeof number, "%d", (int)PROTOCOL_VERSION);
    bytes_put_text(out, number);
    put_key(out, "name", false);
    put_string(out, target->name);
    put_key(out, "version", false);
    put_string(out, target->version);
    put_key(out, "functions", false);
    bytes_put_u8(out, '[');
    for (size_t i = 0; i < ABI_FUNCTIONS; ++i) {
        if (target->functions[i] != NULL) {
            put_item(out, abi_functions[i].name, &first);
        }
    }
    bytes_put_u8(out, ']');
    put_key(out, "capabilities", false);
    bytes_put_u8(out, '[');
    put_capabilities(out, target);
    bytes_put_u8(out, ']');
    put_key(out, "cpu", false);
    bytes_put_u8(out, '{');
    put_cpu(out);
    bytes_put_u8(out, '}');
    put_key(out, "compiler", false);
    put_string(out, target->compiler);
    put_key(out, "flags", false);
    put_string(out, target->flags);
    put_key(out, "emulated", false);
    bytes_put_text(out, emulated < 0 ? "null" : emulated ? "true" : "false");
    put_key(out, "kernel", false);
    put_kernel(out, target->path);
    put_key(out, "loading", false);
    put_loading(out, target);
    if (target->devices != NULL) {
        put_devices(out, target);
    }
    bytes_put_u8(out, '}');
}
