/* libnvidia-ml.so.1: what nvidia-ml-py asks about GPUs, their MIG instances and their encoders.
 *
 * Every answer about sessions and engines is read from the shared state, so it is true of all processes. Structs are
 * laid out as in NVML's public interface.
 */
#include <stdio.h>
#include <string.h>

#include "state.h"

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9, FUNCTION_NOT_FOUND = 13, GPU_IS_LOST = 15, UNKNOWN = 999,
};
enum { H264_QUERY, HEVC_QUERY, AV1_QUERY };
#define BASE_MB 300 /* taken by a driver that does nothing; the second version of the question tells it apart */
#define SESSION_MB 130
#define MB (1024ULL * 1024)

struct device {
    int gpu, mig; /* mig -1: the GPU itself */
};

struct pci {
    char legacy_bus_id[16];
    unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
};

struct memory {
    unsigned long long total, free, used;
};

struct memory_v2 {
    unsigned version;
    unsigned long long total, reserved, free, used;
};

struct utilization {
    unsigned gpu, memory;
};

struct encoder_session {
    unsigned id, pid, vgpu, codec, width, height, average_fps, average_latency_us;
};

static struct device known[MAX_GPUS][MAX_GPUS + 1]; /* [gpu][1 + instance] */
static int initialised;
static __thread struct settings settings; /* as read by the call that is being answered */

int nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    if (!read_settings(0, &settings) || settings.gpus < 1)
        return DRIVER_NOT_LOADED;
    initialised++;
    return SUCCESS;
}

int nvmlShutdown(void)
{
    if (!initialised)
        return UNINITIALIZED;
    initialised--;
    return SUCCESS;
}

const char *nvmlErrorString(int code)
{
    switch (code) {
    case SUCCESS: return "The operation was successful";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case FUNCTION_NOT_FOUND: return "Function Not Found";
    case GPU_IS_LOST: return "GPU is lost";
    default: return "Unknown Error";
    }
}

/* What stands before every answer: the settings of the GPU that is asked about are read. */
static int look(const struct device *device)
{
    if (!initialised)
        return UNINITIALIZED;
    if (!device)
        return INVALID_ARGUMENT;
    read_settings(device->gpu, &settings);
    return settings.lost ? GPU_IS_LOST : SUCCESS;
}

static int look_at_system(void)
{
    read_settings(0, &settings);
    return initialised ? SUCCESS : UNINITIALIZED;
}

/* As NVML does, nothing is told of encoders of MIG instances and of GPUs that are split into them. A GPU without an
 * encoder is answered for as one that is idle: so an H200 does, with driver 580.159.04. */
static int look_at_encoder(const struct device *device)
{
    int code = look(device);

    if (!code && settings.hang == HANG_NVML)
        hang_for_ever();
    return code ? code : settings.mig || device->mig >= 0 ? NOT_SUPPORTED : SUCCESS;
}

static int name_device(int gpu, int mig, struct device **device)
{
    if (!initialised)
        return UNINITIALIZED;
    read_settings(gpu, &settings);
    if (gpu < 0 || gpu >= settings.gpus || mig >= MAX_GPUS)
        return INVALID_ARGUMENT;
    if (settings.lost)
        return GPU_IS_LOST;
    if (mig >= 0 && (!settings.mig || mig >= settings.mig_instances))
        return NOT_FOUND;
    *device = &known[gpu][mig + 1];
    **device = (struct device){gpu, mig};
    return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *version, unsigned size)
{
    int code = look_at_system();

    snprintf(version, size, "%s", settings.driver_version);
    return code;
}

int nvmlSystemGetNVMLVersion(char *version, unsigned size)
{
    int code = look_at_system();

    snprintf(version, size, "13.%s", settings.driver_version);
    return code;
}

int nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    *version = 13010;
    return look_at_system();
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
    int code = look_at_system();

    *count = (unsigned)settings.gpus;
    return code;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct device **device)
{
    return name_device((int)index, -1, device);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, struct device **device)
{
    char own[UUID_TEXT_SIZE];
    int code;

    for (int gpu = 0; gpu < MAX_GPUS; gpu++)
        for (int mig = -1; mig < MAX_GPUS; mig++) {
            gpu_uuid_text(gpu, mig, own);
            if (strcmp(own, uuid))
                continue;
            code = name_device(gpu, mig, device);
            return code == INVALID_ARGUMENT ? NOT_FOUND : code;
        }
    return initialised ? NOT_FOUND : UNINITIALIZED;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, struct device **device)
{
    unsigned domain, bus;

    if (sscanf(bus_id, "%x:%x:00.0", &domain, &bus) != 2 || domain)
        return NOT_FOUND;
    return name_device((int)bus - 1, -1, device);
}

int nvmlDeviceGetIndex(const struct device *device, unsigned *index)
{
    *index = (unsigned)device->gpu;
    return look(device);
}

int nvmlDeviceGetName(const struct device *device, char *name, unsigned size)
{
    snprintf(name, size, "%s%s", DEVICE_NAME, device->mig >= 0 ? " MIG" : "");
    return look(device);
}

int nvmlDeviceGetUUID(const struct device *device, char *text, unsigned size)
{
    char own[UUID_TEXT_SIZE];
    gpu_uuid_text(device->gpu, device->mig, own);
    snprintf(text, size, "%s", own);
    return look(device);
}

int nvmlDeviceGetPciInfo_v3(const struct device *device, struct pci *pci)
{
    memset(pci, 0, sizeof *pci);
    pci->bus = (unsigned)device->gpu + 1;
    snprintf(pci->legacy_bus_id, sizeof pci->legacy_bus_id, "0000:%02X:00.0", pci->bus);
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", pci->bus);
    return look(device);
}

int nvmlDeviceGetCudaComputeCapability(const struct device *device, int *major, int *minor)
{
    *major = 8;
    *minor = 9;
    return look(device);
}

int nvmlDeviceGetMemoryInfo(const struct device *device, struct memory *memory)
{
    int code = look(device);

    if (code)
        return code;
    memory->total = (unsigned long long)settings.memory_mb * MB;
    memory->used = (BASE_MB + SESSION_MB * (unsigned long long)count_sessions(device->gpu)) * MB;
    memory->used = memory->used < memory->total ? memory->used : memory->total;
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(const struct device *device, struct memory_v2 *memory)
{
    struct memory plain;
    int code = nvmlDeviceGetMemoryInfo(device, &plain);

    if (code)
        return code;
    memory->total = plain.total;
    memory->reserved = plain.used < BASE_MB * MB ? plain.used : BASE_MB * MB;
    memory->free = plain.free;
    memory->used = plain.used - memory->reserved;
    return SUCCESS;
}

/* No kernel ever runs here, and the encoders' share is told apart. */
int nvmlDeviceGetUtilizationRates(const struct device *device, struct utilization *rates)
{
    int code = look(device);

    rates->gpu = rates->memory = 0;
    return code ? code : settings.mig || device->mig >= 0 ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetEncoderUtilization(const struct device *device, unsigned *percent, unsigned *period_us)
{
    int code = look_at_encoder(device);

    if (code)
        return code;
    *percent = (unsigned)busy_percent(device->gpu, &settings);
    *period_us = BUSY_PERIOD_US;
    return SUCCESS;
}

int nvmlDeviceGetEncoderCapacity(const struct device *device, int codec, unsigned *percent)
{
    int code = look_at_encoder(device);

    if (code)
        return code;
    if (codec != H264_QUERY)
        return codec == HEVC_QUERY || codec == AV1_QUERY ? NOT_SUPPORTED : INVALID_ARGUMENT;
    *percent = 100 - (unsigned)busy_percent(device->gpu, &settings);
    return SUCCESS;
}

/* Rate and latency are means since the session's first picture. */
static struct encoder_session describe(const struct slot *slot)
{
    int64_t age = now_ns() - slot->first_picture_at, pictures = slot->pictures;

    return (struct encoder_session){
        .id = (unsigned)slot->number,
        .pid = (unsigned)slot->pid,
        .width = (unsigned)slot->width,
        .height = (unsigned)slot->height,
        .average_fps = pictures && age > 0 ? (unsigned)(pictures * 1000000000LL / age) : 0,
        .average_latency_us = pictures ? (unsigned)(slot->latency_ns / pictures / 1000) : 0,
    };
}

static unsigned list_sessions(int gpu, struct encoder_session *sessions)
{
    struct state *state = shared_state();
    unsigned count = 0;

    for (int i = 0; i < MAX_SLOTS; i++)
        if (state->slots[i].pid && state->slots[i].gpu == gpu && slot_is_held(i))
            sessions[count++] = describe(&state->slots[i]);
    return count;
}

int nvmlDeviceGetEncoderSessions(const struct device *device, unsigned *count, struct encoder_session *sessions)
{
    struct encoder_session found[MAX_SLOTS];
    int code = look_at_encoder(device);
    unsigned room = *count;

    if (code)
        return code;
    *count = list_sessions(device->gpu, found);
    if (!sessions)
        return SUCCESS;
    if (*count > room)
        return INSUFFICIENT_SIZE;
    memcpy(sessions, found, *count * sizeof *found);
    return SUCCESS;
}

int nvmlDeviceGetEncoderStats(const struct device *device, unsigned *count, unsigned *fps, unsigned *latency_us)
{
    struct encoder_session found[MAX_SLOTS];
    unsigned long long rates = 0, latencies = 0;
    int code = look_at_encoder(device);

    if (code)
        return code;
    *count = list_sessions(device->gpu, found);
    for (unsigned i = 0; i < *count; i++) {
        rates += found[i].average_fps;
        latencies += found[i].average_latency_us;
    }
    *fps = *count ? (unsigned)(rates / *count) : 0;
    *latency_us = *count ? (unsigned)(latencies / *count) : 0;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(const struct device *device, unsigned *now, unsigned *pending)
{
    int code = look(device);

    *now = *pending = !code && settings.mig;
    return code ? code : device->mig >= 0 ? INVALID_ARGUMENT : SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(const struct device *device, unsigned *count)
{
    *count = MAX_GPUS - 1;
    return look(device);
}

int nvmlDeviceGetMigDeviceHandleByIndex(const struct device *device, unsigned index, struct device **instance)
{
    int code = look(device);

    return code ? code : name_device(device->gpu, index < MAX_GPUS ? (int)index : MAX_GPUS, instance);
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(const struct device *instance, struct device **device)
{
    return instance->mig < 0 ? INVALID_ARGUMENT : name_device(instance->gpu, -1, device);
}

int nvmlDeviceIsMigDeviceHandle(const struct device *device, unsigned *is_instance)
{
    *is_instance = device->mig >= 0;
    return look_at_system();
}
