/* What the three emulated libraries share: the settings a test writes, and the hardware's state in one file.
 *
 * The settings file is named by FANREEL_EMULATED_NVENC. Beside it, as "<settings file>.state", lies `struct state`,
 * mapped by every process that uses the driver. tests/emulated_nvenc.py mirrors that struct field by field, which is
 * why everything in it is an int64_t.
 */
#ifndef FANREEL_EMULATED_STATE_H
#define FANREEL_EMULATED_STATE_H

#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(hidden) /* the three libraries live in one process */

#define DEVICE_NAME "fanreel emulated encoder (no GPU)"
#define CONTEXT_MAGIC 0xfa11ee1ec0de0001ULL
#define UUID_TEXT_SIZE 48
#define MAX_GPUS 8
#define MAX_ENGINES 8
#define MAX_SLOTS 64
#define MAX_CODES 32
#define BUCKETS 128
#define BUCKET_NS 100000000LL

enum hang { HANG_NEVER, HANG_OPEN, HANG_ENCODE, HANG_INIT, HANG_NVML };

/* One GPU's settings; those of the whole system stand in every GPU's alike. 0 means off, unless defaults say more. */
struct settings {
    int gpus;
    int session_limit, system_session_limit, limit_code;
    int fail_picture, fail_code, fail_picture_once;
    int fail_open_every, fail_open_code;
    int hang, hang_picture, hang_once;
    int no_encoder, no_encoder_code;
    int lost;
    int engines, microseconds_per_frame;
    int keep_engine; /* a session stays on one engine; else whichever is free first takes a picture */
    int max_b_frames, delay_pictures;
    int mig, mig_instances;
    int memory_mb;
    int api_version; /* major << 4 | minor, as NvEncodeAPIGetMaxSupportedVersion gives it */
    char driver_version[128];
};

struct counts {
    int64_t attempts, opens, destroys, pictures, most_sessions;
    int64_t refusals[MAX_CODES];
};

/* An engine of which only its timetable exists. Times are CLOCK_MONOTONIC nanoseconds. */
struct engine {
    int64_t free_at, busy_ns, pictures;
};

struct gpu_state {
    struct counts counts;
    struct engine engines[MAX_ENGINES];
    int64_t buckets[BUCKETS]; /* busy time of all engines by tenths of a second: tenth << 32 | nanoseconds */
};

/* Who holds a session; believed only while the slot's byte in the file is locked. */
struct slot {
    int64_t gpu, pid, number, width, height, pictures, first_picture_at, latency_ns;
};

struct state {
    int64_t fault_taken, hang_taken, next_number;
    struct counts total;
    struct gpu_state gpus[MAX_GPUS];
    struct slot slots[MAX_SLOTS];
};

/* A CUDA context; the encoder's library knows the GPU by it. */
struct context {
    uint64_t magic;
    int gpu;
    int references;
};

struct session_slot {
    int fd; /* its open file description holds the lock, so that kill -9 frees it */
    int index;
    int engine; /* the sessions that were open before it on its GPU: engines are shared out in turn */
};

/* 0 without a settings file, which stands for a machine without a driver. */
int read_settings(int gpu, struct settings *settings);
struct state *shared_state(void);
int64_t now_ns(void);
void sleep_until(int64_t moment_ns);
void hang_for_ever(void);

int count_sessions(int gpu); /* -1: of all GPUs */
int slot_is_held(int index);
/* 0, or the code the open is refused with; a refusal is counted. */
int take_slot(int gpu, const struct settings *settings, struct session_slot *slot);
void release_slot(int gpu, struct session_slot *slot);
void count_refusal(int gpu, int code);
/* Whether a fault that befalls one session only is this one's. `token` 0: it befalls every session. */
int take_once(int64_t *taken, int token);

/* Books a picture of a session on an engine and returns when that engine will have done it. */
int64_t book_engine(int gpu, const struct settings *settings, const struct session_slot *slot);
/* Per cent of all engines' time that was busy over the last whole half second. */
int busy_percent(int gpu, const struct settings *settings);
#define BUSY_PERIOD_US 500000

void gpu_uuid(int gpu, int mig_instance, unsigned char bytes[16]); /* mig_instance -1: the GPU itself */
void gpu_uuid_text(int gpu, int mig_instance, char text[UUID_TEXT_SIZE]);

#pragma GCC visibility pop

#endif
