/* The settings file, read anew whenever it was replaced: see state.h. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "state.h"

static const struct {
    const char *name;
    size_t offset;
} NUMBERS[] = {
#define NUMBER(name) {#name, offsetof(struct settings, name)}
    NUMBER(gpus), NUMBER(session_limit), NUMBER(system_session_limit), NUMBER(limit_code), NUMBER(fail_picture),
    NUMBER(fail_code), NUMBER(fail_picture_once), NUMBER(fail_open_every), NUMBER(fail_open_code),
    NUMBER(hang_picture), NUMBER(hang_once), NUMBER(no_encoder), NUMBER(no_encoder_code), NUMBER(lost),
    NUMBER(engines), NUMBER(keep_engine), NUMBER(microseconds_per_frame), NUMBER(max_b_frames),
    NUMBER(delay_pictures), NUMBER(mig), NUMBER(mig_instances), NUMBER(memory_mb),
};

static const struct settings DEFAULTS = {
    .gpus = 1, .limit_code = 21, .fail_code = 20, .fail_open_code = 10, .hang_picture = 1, .no_encoder_code = 2,
    .engines = 1, .max_b_frames = 4, .mig_instances = 1, .memory_mb = 24576, .api_version = 13 << 4 | 1,
    .driver_version = "610.10.00",
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct settings current[MAX_GPUS];

static int find_hang(const char *where)
{
    static const char *const PLACES[] = {
        [HANG_OPEN] = "open", [HANG_ENCODE] = "encode", [HANG_INIT] = "init", [HANG_NVML] = "nvml",
    };

    for (int i = HANG_OPEN; i <= HANG_NVML; i++)
        if (strcmp(where, PLACES[i]) == 0)
            return i;
    return HANG_NEVER;
}

static void apply(struct settings *settings, const char *key, const char *value)
{
    int major = 0, minor = 0;

    for (size_t i = 0; i < sizeof NUMBERS / sizeof *NUMBERS; i++)
        if (strcmp(key, NUMBERS[i].name) == 0)
            *(int *)((char *)settings + NUMBERS[i].offset) = atoi(value);
    if (strcmp(key, "hang") == 0)
        settings->hang = find_hang(value);
    if (strcmp(key, "api_version") == 0 && sscanf(value, "%d.%d", &major, &minor) == 2)
        settings->api_version = major << 4 | minor;
    if (strcmp(key, "driver_version") == 0)
        snprintf(settings->driver_version, sizeof settings->driver_version, "%s", value);
    if (settings->engines < 1 || settings->engines > MAX_ENGINES)
        settings->engines = settings->engines < 1 ? 1 : MAX_ENGINES;
    if (settings->gpus > MAX_GPUS)
        settings->gpus = MAX_GPUS;
}

/* "key=value" is for every GPU and "gpuN.key=value" for one, wherever in the file they stand. */
static void parse(FILE *file)
{
    char line[256], key[64], value[128];
    int gpu, end;

    for (int i = 0; i < MAX_GPUS; i++)
        current[i] = DEFAULTS;
    for (int own = 0; own < 2; own++) {
        rewind(file);
        while (fgets(line, sizeof line, file)) {
            end = 0;
            if (sscanf(line, "gpu%d.%n", &gpu, &end) != 1 || !end)
                gpu = -1;
            if (sscanf(line + end, "%63[^=\n]=%127[^\n]", key, value) != 2 || own != (gpu >= 0))
                continue;
            for (int i = 0; i < MAX_GPUS; i++)
                if (gpu == -1 || gpu == i)
                    apply(&current[i], key, value);
        }
    }
}

int read_settings(int gpu, struct settings *settings)
{
    static struct stat seen;
    const char *path = getenv("FANREEL_EMULATED_NVENC");
    struct stat found;
    FILE *file;

    memset(settings, 0, sizeof *settings);
    if (!path || stat(path, &found) != 0)
        return 0;
    pthread_mutex_lock(&lock);
    /* The file is always replaced, never written in place, so a change shows as another inode or another time. */
    if (found.st_ino != seen.st_ino || found.st_mtim.tv_sec != seen.st_mtim.tv_sec ||
        found.st_mtim.tv_nsec != seen.st_mtim.tv_nsec || found.st_size != seen.st_size) {
        file = fopen(path, "re");
        if (file) {
            parse(file);
            fclose(file);
            seen = found;
        }
    }
    *settings = current[gpu >= 0 && gpu < MAX_GPUS ? gpu : 0];
    pthread_mutex_unlock(&lock);
    return 1;
}
