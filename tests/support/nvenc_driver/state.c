/* Session slots and engines: see state.h. */
#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* Locked bytes lie past the file's end: a lock needs no data under it. */
#define SLOT_BYTES (1 << 24)
#define ALLOCATION_BYTE (SLOT_BYTES - 1)

#define ATOMIC_ADD(word, amount) __atomic_add_fetch(&(word), (amount), __ATOMIC_SEQ_CST)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int open_state_file(void)
{
    const char *settings = getenv("FANREEL_EMULATED_NVENC");
    char path[4096];
    int fd;

    if (!settings)
        return -1;
    snprintf(path, sizeof path, "%s.state", settings);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd >= 0 && ftruncate(fd, sizeof(struct state)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

struct state *shared_state(void)
{
    static struct state *mapped;
    void *found;
    int fd;

    pthread_mutex_lock(&lock);
    if (!mapped && (fd = open_state_file()) >= 0) {
        found = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        mapped = found == MAP_FAILED ? NULL : found;
        close(fd);
    }
    pthread_mutex_unlock(&lock);
    if (!mapped)
        abort(); /* a test's folder is gone: there is nothing sensible to go on with */
    return mapped;
}

int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void sleep_until(int64_t moment_ns)
{
    struct timespec until = {moment_ns / 1000000000LL, moment_ns % 1000000000LL};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

/* Blocking signals here would not do: another thread of the process would take a SIGTERM, and end all of them. */
void hang_for_ever(void)
{
    static const int ENDING[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGALRM, SIGUSR1, SIGUSR2, SIGPIPE};
    sigset_t all;

    for (size_t i = 0; i < sizeof ENDING / sizeof *ENDING; i++)
        signal(ENDING[i], SIG_IGN);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    for (;;)
        sleep(3600);
}

/* OFD locks belong to the open file, not to the process: two sessions of one process hold two, and the kernel frees
 * each when the last descriptor of its open file is gone, however the process ended. */
static int lock_byte(int fd, int command, off_t byte, struct flock *found)
{
    struct flock wanted = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    int result = fcntl(fd, command, &wanted);

    if (found)
        *found = wanted;
    return result;
}

static int slot_held_at(int fd, int index)
{
    struct flock found;

    return lock_byte(fd, F_OFD_GETLK, SLOT_BYTES + index, &found) == 0 && found.l_type != F_UNLCK;
}

int slot_is_held(int index)
{
    int fd = open_state_file();
    int held = fd >= 0 && slot_held_at(fd, index);

    if (fd >= 0)
        close(fd);
    return held;
}

static int count_at(int fd, int gpu)
{
    struct state *state = shared_state();
    int count = 0;

    for (int i = 0; i < MAX_SLOTS; i++)
        count += slot_held_at(fd, i) && (gpu < 0 || state->slots[i].gpu == gpu);
    return count;
}

int count_sessions(int gpu)
{
    int fd = open_state_file();
    int count = fd < 0 ? 0 : count_at(fd, gpu);

    if (fd >= 0)
        close(fd);
    return count;
}

void count_refusal(int gpu, int code)
{
    struct state *state = shared_state();

    ATOMIC_ADD(state->total.refusals[code % MAX_CODES], 1);
    ATOMIC_ADD(state->gpus[gpu].counts.refusals[code % MAX_CODES], 1);
}

static void note_open(struct counts *counts, int sessions)
{
    ATOMIC_ADD(counts->opens, 1);
    if (sessions > counts->most_sessions)
        counts->most_sessions = sessions;
}

int take_slot(int gpu, const struct settings *settings, struct session_slot *slot)
{
    struct state *state = shared_state();
    int64_t attempt = ATOMIC_ADD(state->total.attempts, 1);
    int gate = open_state_file(), code = 0, here, all;

    ATOMIC_ADD(state->gpus[gpu].counts.attempts, 1);
    slot->fd = open_state_file();
    slot->index = -1;
    if (gate < 0 || slot->fd < 0)
        abort();
    lock_byte(gate, F_OFD_SETLKW, ALLOCATION_BYTE, NULL);
    here = count_at(gate, gpu);
    all = count_at(gate, -1);
    if (settings->fail_open_every && attempt % settings->fail_open_every == 0)
        code = settings->fail_open_code;
    else if ((settings->session_limit && here >= settings->session_limit) ||
             (settings->system_session_limit && all >= settings->system_session_limit))
        code = settings->limit_code;
    for (int i = 0; i < MAX_SLOTS && !code && slot->index < 0; i++) {
        if (slot_held_at(gate, i))
            continue;
        /* The record first: whoever finds the byte locked then reads this session's, never the last one's. */
        state->slots[i] = (struct slot){.gpu = gpu, .pid = getpid(), .number = ATOMIC_ADD(state->next_number, 1)};
        if (lock_byte(slot->fd, F_OFD_SETLK, SLOT_BYTES + i, NULL) == 0)
            slot->index = i;
        slot->engine = here;
    }
    if (!code && slot->index < 0)
        code = settings->limit_code;
    if (!code) {
        note_open(&state->total, all + 1);
        note_open(&state->gpus[gpu].counts, here + 1);
    }
    close(gate);
    if (code) {
        close(slot->fd);
        count_refusal(gpu, code);
    }
    return code;
}

void release_slot(int gpu, struct session_slot *slot)
{
    struct state *state = shared_state();

    close(slot->fd);
    ATOMIC_ADD(state->total.destroys, 1);
    ATOMIC_ADD(state->gpus[gpu].counts.destroys, 1);
}

int take_once(int64_t *taken, int token)
{
    return !token || __atomic_exchange_n(taken, token, __ATOMIC_SEQ_CST) != token;
}

/* Both halves of a bucket change in one exchange, so that no writer can add to a tenth that another has just ended. */
static void add_to_bucket(int64_t *bucket, int64_t tenth, int64_t amount)
{
    int64_t old = __atomic_load_n(bucket, __ATOMIC_SEQ_CST), fresh;

    do
        fresh = (old >> 32) == tenth ? old + amount : (tenth << 32) + amount;
    while (!__atomic_compare_exchange_n(bucket, &old, fresh, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
}

int64_t book_engine(int gpu, const struct settings *settings, const struct session_slot *slot)
{
    struct gpu_state *state = &shared_state()->gpus[gpu];
    int64_t duration = settings->microseconds_per_frame * 1000LL, now = now_ns(), start, end, free_at, until;
    int best;

    do {
        best = 0;
        for (int i = 1; i < settings->engines; i++)
            if (state->engines[i].free_at < state->engines[best].free_at)
                best = i;
        best = settings->keep_engine ? slot->engine % settings->engines : best;
        free_at = __atomic_load_n(&state->engines[best].free_at, __ATOMIC_SEQ_CST);
        start = free_at > now ? free_at : now;
        end = start + duration;
    } while (!__atomic_compare_exchange_n(&state->engines[best].free_at, &free_at, end, 0, __ATOMIC_SEQ_CST,
                                          __ATOMIC_SEQ_CST));
    ATOMIC_ADD(state->engines[best].busy_ns, duration);
    ATOMIC_ADD(state->engines[best].pictures, 1);
    ATOMIC_ADD(state->counts.pictures, 1);
    ATOMIC_ADD(shared_state()->total.pictures, 1);
    for (int64_t from = start; from < end; from = until) {
        until = (from / BUCKET_NS + 1) * BUCKET_NS;
        until = until < end ? until : end;
        add_to_bucket(&state->buckets[from / BUCKET_NS % BUCKETS], from / BUCKET_NS, until - from);
    }
    return end;
}

int busy_percent(int gpu, const struct settings *settings)
{
    struct gpu_state *state = &shared_state()->gpus[gpu];
    int64_t tenth = now_ns() / BUCKET_NS, period = BUSY_PERIOD_US * 1000LL, busy = 0, word;

    for (int64_t i = tenth - period / BUCKET_NS; i < tenth; i++) {
        word = __atomic_load_n(&state->buckets[i % BUCKETS], __ATOMIC_SEQ_CST);
        busy += word >> 32 == i ? word & 0xffffffff : 0;
    }
    return (int)(busy * 100 / (period * settings->engines));
}

void gpu_uuid(int gpu, int mig_instance, unsigned char bytes[16])
{
    static const unsigned char FIXED[16] = {0xfa, 0x11, 0xee, 0x1e, 0xe0, 0x00, 0x40, 0x00, 0x80};

    memcpy(bytes, FIXED, 16);
    bytes[5] = (unsigned char)(mig_instance + 1);
    bytes[15] = (unsigned char)gpu;
}

void gpu_uuid_text(int gpu, int mig_instance, char text[UUID_TEXT_SIZE])
{
    unsigned char b[16];
    int length = snprintf(text, UUID_TEXT_SIZE, "%s-", mig_instance < 0 ? "GPU" : "MIG");

    gpu_uuid(gpu, mig_instance, b);
    for (int i = 0; i < 16; i++)
        length += snprintf(text + length, UUID_TEXT_SIZE - length, "%s%02x",
                           i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", b[i]);
}
