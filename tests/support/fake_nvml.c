/* A stand-in for NVIDIA's management library: the GPUs that FAKE_GPUS names, as "uuid name MiB MiB-used;…" (no spaces inside a part). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { char uuid[96], name[96]; unsigned long long total, used; } gpu;
typedef struct { unsigned long long total, free, used; } memory;
static gpu gpus[16];
static unsigned count;

int nvmlInit_v2(void) {
    const char *text = getenv("FAKE_GPUS");
    char copy[4096], *rest = copy, *part;
    count = 0;
    if (!text) return 9; /* NVML_ERROR_DRIVER_NOT_LOADED */
    snprintf(copy, sizeof copy, "%s", text);
    while ((part = strsep(&rest, ";")) && count < 16)
        if (sscanf(part, "%95s %95s %llu %llu", gpus[count].uuid, gpus[count].name, &gpus[count].total, &gpus[count].used) == 4) count++;
    return 0;
}
int nvmlInitWithFlags(unsigned flags) { return nvmlInit_v2(); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "error"; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = count; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, gpu **handle) {
    if (!strcmp(gpus[index].uuid, "lost")) return 15; /* NVML_ERROR_GPU_IS_LOST */
    *handle = &gpus[index];
    return 0;
}
int nvmlDeviceGetName(gpu *g, char *name, unsigned size) { snprintf(name, size, "%s", g->name); return 0; }
int nvmlDeviceGetUUID(gpu *g, char *uuid, unsigned size) { snprintf(uuid, size, "%s", g->uuid); return 0; }
int nvmlDeviceGetMemoryInfo(gpu *g, memory *m) {
    m->total = g->total << 20, m->used = g->used << 20, m->free = m->total - m->used;
    return 0;
}
