/* libcuda.so.1: devices and contexts, and every symbol that ffmpeg's loader asks for.
 *
 * "Device memory" is the host's. What an encoder fed from host memory does not need answers NOT_SUPPORTED.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

enum {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, DEVICE_UNAVAILABLE = 46, NO_DEVICE = 100,
    INVALID_DEVICE = 101, INVALID_CONTEXT = 201, NOT_SUPPORTED = 801,
};
#define MAX_PUSHED 32

static struct visible {
    int gpu, mig; /* mig -1: the whole GPU */
} devices[MAX_GPUS];
static int device_count = -1; /* -1: cuInit was not called, or has failed */
static pthread_mutex_t initialising = PTHREAD_MUTEX_INITIALIZER;
static __thread struct context *pushed[MAX_PUSHED];
static __thread int depth;
static struct context primary[MAX_GPUS];

static int add_device(struct visible *found, int count, int gpu, int mig)
{
    if (count < MAX_GPUS)
        found[count++] = (struct visible){gpu, mig};
    return count;
}

/* A GPU in MIG mode cannot be used as a whole: named by index or UUID, its first instance is meant. */
static int add_gpu(struct visible *found, int count, int gpu)
{
    struct settings settings;

    read_settings(gpu, &settings);
    return settings.mig && settings.mig_instances < 1 ? count : add_device(found, count, gpu, settings.mig ? 0 : -1);
}

/* Adds the device whose index, or start of UUID, `name` is; without one, the count stays. */
static int add_named(struct visible *found, int count, const char *name, int gpus)
{
    char uuid[UUID_TEXT_SIZE], *end;
    struct settings settings;
    long index = strtol(name, &end, 10);

    if (end != name && !*end)
        return index >= 0 && index < gpus ? add_gpu(found, count, (int)index) : count;
    for (int gpu = 0; gpu < gpus && strlen(name) > 4; gpu++) {
        read_settings(gpu, &settings);
        gpu_uuid_text(gpu, -1, uuid);
        if (strncmp(uuid, name, strlen(name)) == 0)
            return add_gpu(found, count, gpu);
        for (int mig = 0; settings.mig && mig < settings.mig_instances; mig++) {
            gpu_uuid_text(gpu, mig, uuid);
            if (strncmp(uuid, name, strlen(name)) == 0)
                return add_device(found, count, gpu, mig);
        }
    }
    return count;
}

static int is_among(const struct visible *found, int count, struct visible device)
{
    for (int i = 0; i < count; i++)
        if (found[i].gpu == device.gpu && found[i].mig == device.mig)
            return 1;
    return 0;
}

/* As in CUDA (tried with driver 580.159.04), the first name that is no device's ends the list, and a device that is
 * named twice makes the whole list void: -1. */
static int list_devices(struct visible *found, const char *visible, int gpus)
{
    char names[1024], *rest = NULL;
    int count = 0, before;

    for (int gpu = 0; !visible && gpu < gpus; gpu++)
        count = add_gpu(found, count, gpu);
    snprintf(names, sizeof names, "%s", visible ? visible : "");
    for (char *name = strtok_r(names, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        before = count;
        count = add_named(found, count, name, gpus);
        if (count == before)
            break;
        if (is_among(found, before, found[before]))
            return -1;
    }
    /* CUDA sees one MIG instance at the most, and no other device beside it. */
    for (int i = 0; i < count; i++)
        if (found[i].mig >= 0) {
            found[0] = found[i];
            return 1;
        }
    return count;
}

int cuInit(unsigned flags)
{
    struct settings settings;
    int found;

    (void)flags;
    pthread_mutex_lock(&initialising);
    found = device_count;
    if (found < 0)
        found = read_settings(0, &settings) ? list_devices(devices, getenv("CUDA_VISIBLE_DEVICES"), settings.gpus) : 0;
    if (found > 0)
        device_count = found;
    pthread_mutex_unlock(&initialising);
    if (found > 0 && read_settings(0, &settings) && settings.hang == HANG_INIT)
        hang_for_ever();
    return found > 0 ? SUCCESS : found < 0 ? INVALID_DEVICE : NO_DEVICE;
}

static int check(int device)
{
    if (device_count < 0)
        return NOT_INITIALIZED;
    return device >= 0 && device < device_count ? SUCCESS : INVALID_DEVICE;
}

/* What reaches for the hardware fails once it is lost; what the driver knows by heart does not. */
static int reach(int gpu)
{
    struct settings settings;

    read_settings(gpu, &settings);
    return settings.lost ? DEVICE_UNAVAILABLE : SUCCESS;
}

int cuDriverGetVersion(int *version)
{
    *version = 13010;
    return SUCCESS;
}

int cuDeviceGetCount(int *count)
{
    *count = device_count < 0 ? 0 : device_count;
    return device_count < 0 ? NOT_INITIALIZED : SUCCESS;
}

int cuDeviceGet(int *device, int ordinal)
{
    *device = ordinal;
    return check(ordinal);
}

int cuDeviceGetName(char *name, int size, int device)
{
    if (check(device))
        return check(device);
    snprintf(name, (size_t)size, "%s%s", DEVICE_NAME, devices[device].mig >= 0 ? " MIG" : "");
    return SUCCESS;
}

/* The first version names the GPU an instance lies on, the second the instance. */
int cuDeviceGetUuid(unsigned char *uuid, int device)
{
    if (!check(device))
        gpu_uuid(devices[device].gpu, -1, uuid);
    return check(device);
}

int cuDeviceGetUuid_v2(unsigned char *uuid, int device)
{
    if (!check(device))
        gpu_uuid(devices[device].gpu, devices[device].mig, uuid);
    return check(device);
}

int cuDeviceGetPCIBusId(char *name, int size, int device)
{
    if (check(device))
        return check(device);
    snprintf(name, (size_t)size, "0000:%02x:00.0", devices[device].gpu + 1);
    return SUCCESS;
}

int cuDeviceComputeCapability(int *major, int *minor, int device)
{
    *major = 8;
    *minor = 9;
    return check(device);
}

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    *value = attribute == 75 ? 8 : attribute == 76 ? 9 : attribute == 14 || attribute == 51 ? 256 : 1;
    return check(device);
}

static struct context *new_context(int device)
{
    struct context *context = calloc(1, sizeof *context);

    context->magic = CONTEXT_MAGIC;
    context->gpu = devices[device].gpu;
    return context;
}

int cuCtxPushCurrent_v2(struct context *context)
{
    if (!context || context->magic != CONTEXT_MAGIC || depth == MAX_PUSHED)
        return INVALID_CONTEXT;
    pushed[depth++] = context;
    return SUCCESS;
}

int cuCtxPopCurrent_v2(struct context **context)
{
    if (!depth)
        return INVALID_CONTEXT;
    depth--;
    if (context)
        *context = pushed[depth];
    return SUCCESS;
}

int cuCtxCreate_v2(struct context **context, unsigned flags, int device)
{
    int code = check(device) ? check(device) : reach(devices[device].gpu);

    (void)flags;
    if (code)
        return code;
    *context = new_context(device);
    return cuCtxPushCurrent_v2(*context);
}

int cuCtxDestroy_v2(struct context *context)
{
    if (!context || context->magic != CONTEXT_MAGIC)
        return INVALID_CONTEXT;
    if (depth && pushed[depth - 1] == context)
        depth--;
    context->magic = 0;
    free(context);
    return SUCCESS;
}

int cuCtxGetCurrent(struct context **context)
{
    *context = depth ? pushed[depth - 1] : NULL;
    return SUCCESS;
}

int cuCtxGetDevice(int *device)
{
    for (*device = 0; depth && *device < device_count; ++*device)
        if (devices[*device].gpu == pushed[depth - 1]->gpu)
            return SUCCESS;
    return INVALID_CONTEXT;
}

int cuDevicePrimaryCtxRetain(struct context **context, int device)
{
    int code = check(device) ? check(device) : reach(devices[device].gpu);

    if (code)
        return code;
    *context = &primary[device];
    (*context)->magic = CONTEXT_MAGIC;
    (*context)->gpu = devices[device].gpu;
    (*context)->references++;
    return SUCCESS;
}

int cuDevicePrimaryCtxRelease(int device)
{
    if (!check(device) && primary[device].references > 0)
        primary[device].references--;
    return check(device);
}

int cuMemAlloc_v2(void **memory, size_t size)
{
    int code = depth ? reach(pushed[depth - 1]->gpu) : INVALID_CONTEXT;

    if (code)
        return code;
    *memory = malloc(size);
    return *memory ? SUCCESS : OUT_OF_MEMORY;
}

int cuMemFree_v2(void *memory)
{
    free(memory);
    return SUCCESS;
}

static const struct {
    int code;
    const char *name, *text;
} ERRORS[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {DEVICE_UNAVAILABLE, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
};

static int describe(int code, int by_name, const char **text)
{
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (ERRORS[i].code == code) {
            *text = by_name ? ERRORS[i].name : ERRORS[i].text;
            return SUCCESS;
        }
    *text = NULL;
    return INVALID_VALUE;
}

int cuGetErrorName(int code, const char **text)
{
    return describe(code, 1, text);
}

int cuGetErrorString(int code, const char **text)
{
    return describe(code, 0, text);
}

/* The loader wants these to exist. The first kind may be called by a client that feeds pictures from host memory, and
 * nothing is to be done; streams and events exist in name only, as every call here has ended when it returns. */
#define NOTHING_TO_DO(name) int name(void) { return SUCCESS; }
#define MISSING(name) int name(void) { return NOT_SUPPORTED; }

NOTHING_TO_DO(cuCtxSetLimit) NOTHING_TO_DO(cuCtxSynchronize) NOTHING_TO_DO(cuDevicePrimaryCtxReset)
NOTHING_TO_DO(cuDevicePrimaryCtxSetFlags) NOTHING_TO_DO(cuStreamQuery) NOTHING_TO_DO(cuStreamSynchronize)
NOTHING_TO_DO(cuStreamDestroy_v2) NOTHING_TO_DO(cuStreamWaitEvent) NOTHING_TO_DO(cuEventDestroy_v2)
NOTHING_TO_DO(cuEventQuery) NOTHING_TO_DO(cuEventRecord) NOTHING_TO_DO(cuEventSynchronize)

MISSING(cuArray3DCreate_v2) MISSING(cuArray3DGetDescriptor_v2) MISSING(cuArrayCreate_v2) MISSING(cuArrayDestroy)
MISSING(cuArrayGetPlane) MISSING(cuCtxGetStreamPriorityRange) MISSING(cuDestroyExternalMemory)
MISSING(cuDeviceGetByPCIBusId) MISSING(cuDevicePrimaryCtxGetState)
MISSING(cuDestroyExternalSemaphore) MISSING(cuDeviceGetLuid) MISSING(cuEGLStreamConsumerDisconnect)
MISSING(cuEGLStreamProducerConnect) MISSING(cuEGLStreamProducerDisconnect) MISSING(cuEGLStreamProducerPresentFrame)
MISSING(cuEGLStreamProducerReturnFrame) MISSING(cuEventCreate) MISSING(cuExternalMemoryGetMappedBuffer)
MISSING(cuExternalMemoryGetMappedMipmappedArray) MISSING(cuGLGetDevices_v2) MISSING(cuGraphicsGLRegisterImage)
MISSING(cuGraphicsMapResources) MISSING(cuGraphicsResourceGetMappedPointer_v2)
MISSING(cuGraphicsSubResourceGetMappedArray) MISSING(cuGraphicsUnmapResources) MISSING(cuGraphicsUnregisterResource)
MISSING(cuImportExternalMemory) MISSING(cuImportExternalSemaphore) MISSING(cuLaunchHostFunc) MISSING(cuLaunchKernel)
MISSING(cuLinkAddData) MISSING(cuLinkComplete) MISSING(cuLinkCreate) MISSING(cuLinkDestroy) MISSING(cuMemAllocAsync)
MISSING(cuMemAllocManaged) MISSING(cuMemAllocPitch_v2) MISSING(cuMemFreeAsync) MISSING(cuMemFreeHost)
MISSING(cuMemHostAlloc) MISSING(cuMemcpy) MISSING(cuMemcpy2DAsync_v2) MISSING(cuMemcpy2D_v2) MISSING(cuMemcpyAsync)
MISSING(cuMemcpyDtoDAsync_v2) MISSING(cuMemcpyDtoD_v2) MISSING(cuMemcpyDtoHAsync_v2) MISSING(cuMemcpyDtoH_v2)
MISSING(cuMemcpyHtoDAsync_v2) MISSING(cuMemcpyHtoD_v2) MISSING(cuMemsetD16Async) MISSING(cuMemsetD2D16Async)
MISSING(cuMemsetD2D32Async) MISSING(cuMemsetD2D8Async) MISSING(cuMemsetD32Async) MISSING(cuMemsetD8Async)
MISSING(cuMipmappedArrayDestroy) MISSING(cuMipmappedArrayGetLevel) MISSING(cuModuleGetFunction)
MISSING(cuModuleGetGlobal) MISSING(cuModuleLoadData) MISSING(cuModuleUnload) MISSING(cuSignalExternalSemaphoresAsync)
MISSING(cuStreamAddCallback) MISSING(cuStreamCreate) MISSING(cuStreamCreateWithPriority) MISSING(cuTexObjectCreate)
MISSING(cuTexObjectDestroy) MISSING(cuWaitExternalSemaphoresAsync)
