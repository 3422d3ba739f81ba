/* Detects an emulator by the pages of this program's code: a processor needs them executable, an interpreter only
 * readable. The mappings must come from the kernel: emulators replace /proc/self/maps by the emulated mappings, but
 * not the file of a thread (/proc/self/task/ID/maps). */
#include "cpu.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int cpu_emulated(void) {
    int (*const self)(void) = cpu_emulated;
    uintptr_t code = 0;
    char path[64];
    char line[512];
    bool any = false;

    memcpy(&code, &self, sizeof code);
    snprintf(path, sizeof path, "/proc/self/task/%ld/maps", syscall(SYS_gettid));
    FILE *maps = fopen(path, "r");
    if (maps == NULL) {
        return -1;
    }
    int emulated = 1; /* until an executable page with this code is found */
    while (fgets(line, sizeof line, maps) != NULL) {
        uintptr_t from, to;
        char access[5];
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s", &from, &to, access) == 3) {
            any = true;
            if (from <= code && code < to && access[2] == 'x') {
                emulated = 0;
            }
        }
    }
    fclose(maps);
    return any ? emulated : -1;
}
