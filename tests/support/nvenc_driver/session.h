/* One NVENC session: what setup.c and encode.c share. */
#ifndef FANREEL_EMULATED_SESSION_H
#define FANREEL_EMULATED_SESSION_H

#include <stddef.h>
#include <stdint.h>

#include <ffnvcodec/nvEncodeAPI.h>
#include <x264.h>

#include "state.h"

#pragma GCC visibility push(hidden) /* the three libraries live in one process */

#define SESSION_MAGIC 0xfa11ee1e5e550001ULL
#define QUEUE 256 /* pictures in flight in one session */

struct picture {
    uint64_t timestamp, duration;
    int64_t booked_at, done_at;
};

/* A client's output buffer, or a packet that has none yet. */
struct output {
    struct picture picture;
    int full, type, qp;
    size_t size, capacity;
    uint8_t *data;
};

struct session {
    uint64_t magic;
    int gpu;
    struct session_slot slot;
    char error[96];
    uint32_t width, height;
    int delay; /* pictures that stay inside, as with look-ahead */
    x264_t *encoder;
    int64_t pictures;                  /* given to x264 */
    int64_t packets, submitted, given; /* made by x264; buffers queued by the client; buffers filled */
    struct picture flying[QUEUE];      /* by picture % QUEUE */
    struct output made[QUEUE];         /* by packet % QUEUE */
    struct output *waiting[QUEUE];     /* by submission % QUEUE */
};

struct x264_functions {
    x264_t *(*open)(x264_param_t *);
    void (*close)(x264_t *);
    int (*encode)(x264_t *, x264_nal_t **, int *, x264_picture_t *, x264_picture_t *);
    int (*headers)(x264_t *, x264_nal_t **, int *);
    int (*delayed)(x264_t *);
    int (*preset)(x264_param_t *, const char *, const char *);
    int (*profile)(x264_param_t *, const char *);
    void (*init)(x264_picture_t *);
};

extern struct x264_functions x264;

/* Keeps `text` for NvEncGetLastErrorString and returns `code`. */
NVENCSTATUS fail(struct session *session, NVENCSTATUS code, const char *text);
void list_setup_functions(NV_ENCODE_API_FUNCTION_LIST *list);

#pragma GCC visibility pop

#endif
