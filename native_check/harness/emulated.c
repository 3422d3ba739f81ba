/* Is this program interpreted? Its own code tells: a processor that runs it needs the page executable, an
 * interpreter only reads it. The list of mappings must come from the kernel itself: emulators write their
 * own /proc/self/maps, with the pages as the program would like to see them, but pass the same file of a
 * thread (/proc/self/task/ID/maps) through. */
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
    int emulated = 1; /* until an executable page with this very code turns up */
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
