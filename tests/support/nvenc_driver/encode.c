/* libnvidia-encode.so.1: NVENC sessions, whose pictures libx264 encodes.
 *
 * Clients come with API versions 10 to 13 and structs to match. The fields used here lie at the same offsets in all
 * of them, so single fields are read and written, and no struct is ever copied, cleared or checked by its version.
 */
#include <stdlib.h>
#include <string.h>

#include "session.h"

struct input {
    NV_ENC_BUFFER_FORMAT format;
    uint32_t height, pitch;
    uint8_t *data;
};

static NVENCSTATUS open_session(NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS *parameters, void **encoder)
{
    struct context *context = parameters->device;
    struct session *session;
    struct settings settings;
    int code;

    *encoder = NULL;
    if (!context || context->magic != CONTEXT_MAGIC || !read_settings(context->gpu, &settings))
        return NV_ENC_ERR_INVALID_ENCODERDEVICE;
    if (settings.hang == HANG_OPEN && take_once(&shared_state()->hang_taken, settings.hang_once))
        hang_for_ever();
    code = settings.lost ? NV_ENC_ERR_DEVICE_NOT_EXIST : settings.no_encoder ? settings.no_encoder_code : 0;
    if (code) {
        count_refusal(context->gpu, code);
        return code;
    }
    session = calloc(1, sizeof *session);
    session->magic = SESSION_MAGIC;
    session->gpu = context->gpu;
    code = take_slot(context->gpu, &settings, &session->slot);
    if (code) {
        free(session);
        return code;
    }
    *encoder = session;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS open_session_old(void *device, uint32_t type, void **encoder)
{
    (void)device, (void)type, (void)encoder;
    return NV_ENC_ERR_UNIMPLEMENTED;
}

static NVENCSTATUS destroy(void *encoder)
{
    struct session *session = encoder;

    if (!session || session->magic != SESSION_MAGIC)
        return NV_ENC_ERR_INVALID_PTR;
    if (session->encoder)
        x264.close(session->encoder);
    for (int i = 0; i < QUEUE; i++)
        free(session->made[i].data);
    release_slot(session->gpu, &session->slot);
    session->magic = 0;
    free(session);
    return NV_ENC_SUCCESS;
}

static const char *last_error(void *encoder)
{
    return encoder ? ((struct session *)encoder)->error : "";
}

static NVENCSTATUS create_input(void *encoder, NV_ENC_CREATE_INPUT_BUFFER *asked)
{
    struct input *input;

    if (asked->bufferFmt != NV_ENC_BUFFER_FORMAT_NV12 && asked->bufferFmt != NV_ENC_BUFFER_FORMAT_YV12 &&
        asked->bufferFmt != NV_ENC_BUFFER_FORMAT_IYUV)
        return fail(encoder, NV_ENC_ERR_UNSUPPORTED_PARAM, "Input format not supported.");
    input = calloc(1, sizeof *input);
    input->format = asked->bufferFmt;
    input->height = asked->height;
    input->pitch = (asked->width + 255) / 256 * 256;
    input->data = calloc(1, (size_t)input->pitch * ((asked->height + 1) & ~1u) * 3 / 2);
    asked->inputBuffer = input;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS destroy_input(void *encoder, void *buffer)
{
    (void)encoder;
    free(((struct input *)buffer)->data);
    free(buffer);
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS lock_input(void *encoder, NV_ENC_LOCK_INPUT_BUFFER *asked)
{
    struct input *input = asked->inputBuffer;

    (void)encoder;
    asked->bufferDataPtr = input->data;
    asked->pitch = input->pitch;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS create_output(void *encoder, NV_ENC_CREATE_BITSTREAM_BUFFER *asked)
{
    (void)encoder;
    asked->bitstreamBuffer = calloc(1, sizeof(struct output));
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS destroy_output(void *encoder, void *buffer)
{
    (void)encoder;
    free(((struct output *)buffer)->data);
    free(buffer);
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS nothing_to_unlock(void *encoder, void *buffer)
{
    (void)encoder, (void)buffer;
    return NV_ENC_SUCCESS;
}

static void append(struct output *packet, const uint8_t *data, size_t size)
{
    if (packet->size + size > packet->capacity) {
        packet->capacity = (packet->size + size) * 2;
        packet->data = realloc(packet->data, packet->capacity);
    }
    memcpy(packet->data + packet->size, data, size);
    packet->size += size;
}

/* x264's SEI is left out: it names x264 and its settings, which no NVENC stream does. */
static void keep_packet(struct session *session, x264_nal_t *nals, int count, const x264_picture_t *coded)
{
    struct output *packet = &session->made[session->packets++ % QUEUE];

    packet->picture = session->flying[coded->i_pts % QUEUE];
    packet->qp = coded->i_qpplus1 - 1;
    packet->type = coded->b_keyframe             ? NV_ENC_PIC_TYPE_IDR
                   : IS_X264_TYPE_I(coded->i_type) ? NV_ENC_PIC_TYPE_I
                   : IS_X264_TYPE_B(coded->i_type) ? NV_ENC_PIC_TYPE_B
                                                   : NV_ENC_PIC_TYPE_P;
    packet->size = 0;
    for (int i = 0; i < count; i++)
        if (nals[i].i_type != NAL_SEI)
            append(packet, nals[i].p_payload, (size_t)nals[i].i_payload);
}

/* Fills the buffers whose packets are made, in the order in which they came, keeping back what the delay asks for.
 * Returns how many. */
static int give_packets(struct session *session, int keep)
{
    struct output *packet, *buffer, old;
    int count = 0;

    while (session->given < session->packets && session->submitted - session->given > keep) {
        packet = &session->made[session->given % QUEUE];
        buffer = session->waiting[session->given % QUEUE];
        old = *buffer;
        *buffer = *packet;
        buffer->full = 1;
        packet->data = old.data;
        packet->capacity = old.capacity;
        session->given++;
        count++;
    }
    return count;
}

static void point_at(x264_picture_t *picture, const struct input *input)
{
    uint8_t *chroma = input->data + (size_t)input->pitch * input->height;
    size_t chroma_size = (size_t)(input->pitch / 2) * ((input->height + 1) / 2);
    int swapped = input->format == NV_ENC_BUFFER_FORMAT_YV12;

    picture->img.plane[0] = input->data;
    picture->img.i_stride[0] = (int)input->pitch;
    picture->img.plane[1] = chroma;
    if (input->format == NV_ENC_BUFFER_FORMAT_NV12) {
        picture->img.i_csp = X264_CSP_NV12;
        picture->img.i_plane = 2;
        picture->img.i_stride[1] = (int)input->pitch;
        return;
    }
    picture->img.i_csp = X264_CSP_I420;
    picture->img.i_plane = 3;
    picture->img.i_stride[1] = picture->img.i_stride[2] = (int)input->pitch / 2;
    picture->img.plane[1] = chroma + (swapped ? chroma_size : 0);
    picture->img.plane[2] = chroma + (swapped ? 0 : chroma_size);
}

/* What the settings let go wrong with the picture that comes next. */
static NVENCSTATUS befall(struct session *session, const struct settings *settings)
{
    struct state *state = shared_state();
    int64_t number = session->pictures + 1;

    if (settings->lost)
        return fail(session, NV_ENC_ERR_DEVICE_NOT_EXIST, "");
    if (settings->hang == HANG_ENCODE && number >= settings->hang_picture &&
        take_once(&state->hang_taken, settings->hang_once))
        hang_for_ever();
    if (settings->fail_picture && number == settings->fail_picture &&
        take_once(&state->fault_taken, settings->fail_picture_once))
        return fail(session, (NVENCSTATUS)settings->fail_code, "");
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS flush(struct session *session)
{
    x264_picture_t coded;
    x264_nal_t *nals;
    int count;

    while (x264.delayed(session->encoder) > 0 &&
           x264.encode(session->encoder, &nals, &count, NULL, &coded) >= 0)
        if (count)
            keep_packet(session, nals, count, &coded);
    give_packets(session, 0);
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS encode(void *encoder, NV_ENC_PIC_PARAMS *asked)
{
    struct session *session = encoder;
    struct slot *slot = &shared_state()->slots[session->slot.index];
    struct picture *flying = &session->flying[session->pictures % QUEUE];
    x264_picture_t picture, coded;
    struct settings settings;
    x264_nal_t *nals;
    NVENCSTATUS code;
    int count;

    if (!session->encoder)
        return fail(session, NV_ENC_ERR_ENCODER_NOT_INITIALIZED, "");
    if (asked->encodePicFlags & NV_ENC_PIC_FLAG_EOS)
        return flush(session);
    read_settings(session->gpu, &settings);
    code = befall(session, &settings);
    if (code)
        return code;
    if (session->submitted - session->given >= QUEUE)
        return fail(session, NV_ENC_ERR_ENCODER_BUSY, "Too many pictures in flight.");
    flying->timestamp = asked->inputTimeStamp;
    flying->duration = asked->inputDuration;
    flying->booked_at = now_ns();
    flying->done_at = book_engine(session->gpu, &settings, &session->slot);
    session->waiting[session->submitted++ % QUEUE] = asked->outputBitstream;
    ((struct output *)asked->outputBitstream)->full = 0;
    slot->first_picture_at = slot->first_picture_at ? slot->first_picture_at : flying->booked_at;
    slot->latency_ns += flying->done_at - flying->booked_at;
    slot->pictures++;

    x264.init(&picture);
    point_at(&picture, asked->inputBuffer);
    picture.i_pts = session->pictures++;
    if ((asked->encodePicFlags & NV_ENC_PIC_FLAG_FORCEIDR) || asked->pictureType == NV_ENC_PIC_TYPE_IDR)
        picture.i_type = X264_TYPE_IDR;
    else if (asked->encodePicFlags & NV_ENC_PIC_FLAG_FORCEINTRA)
        picture.i_type = X264_TYPE_I;
    if (x264.encode(session->encoder, &nals, &count, &picture, &coded) < 0)
        return fail(session, NV_ENC_ERR_GENERIC, "libx264 failed.");
    if (count)
        keep_packet(session, nals, count, &coded);
    return give_packets(session, session->delay) ? NV_ENC_SUCCESS : NV_ENC_ERR_NEED_MORE_INPUT;
}

static NVENCSTATUS lock_output(void *encoder, NV_ENC_LOCK_BITSTREAM *asked)
{
    struct output *output = asked->outputBitstream;
    struct session *session = encoder;
    struct settings settings;

    read_settings(session->gpu, &settings);
    if (settings.lost)
        return fail(session, NV_ENC_ERR_DEVICE_NOT_EXIST, "");
    if (!output->full || (asked->doNotWait && output->picture.done_at > now_ns()))
        return fail(session, NV_ENC_ERR_LOCK_BUSY, "");
    sleep_until(output->picture.done_at);
    asked->bitstreamBufferPtr = output->data;
    asked->bitstreamSizeInBytes = (uint32_t)output->size;
    asked->outputTimeStamp = output->picture.timestamp;
    asked->outputDuration = output->picture.duration;
    asked->pictureType = (NV_ENC_PIC_TYPE)output->type;
    asked->pictureStruct = NV_ENC_PIC_STRUCT_FRAME;
    asked->frameAvgQP = (uint32_t)output->qp;
    asked->numSlices = 1;
    asked->hwEncodeStatus = 0;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS set_streams(void *encoder, void *input, void *output)
{
    (void)encoder, (void)input, (void)output;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS no_reconfiguring(void *encoder, NV_ENC_RECONFIGURE_PARAMS *asked)
{
    (void)asked;
    return fail(encoder, NV_ENC_ERR_UNIMPLEMENTED, "");
}

static NVENCSTATUS no_registering(void *encoder, NV_ENC_REGISTER_RESOURCE *asked)
{
    (void)asked;
    return fail(encoder, NV_ENC_ERR_UNIMPLEMENTED, "The emulated driver takes pictures from host memory only.");
}

NVENCSTATUS NvEncodeAPIGetMaxSupportedVersion(uint32_t *version)
{
    struct settings settings;

    if (!read_settings(0, &settings))
        return NV_ENC_ERR_NO_ENCODE_DEVICE;
    *version = (uint32_t)settings.api_version;
    return NV_ENC_SUCCESS;
}

NVENCSTATUS NvEncodeAPICreateInstance(NV_ENCODE_API_FUNCTION_LIST *list)
{
    list_setup_functions(list);
    list->nvEncOpenEncodeSession = open_session_old;
    list->nvEncOpenEncodeSessionEx = open_session;
    list->nvEncDestroyEncoder = destroy;
    list->nvEncGetLastErrorString = last_error;
    list->nvEncCreateInputBuffer = create_input;
    list->nvEncDestroyInputBuffer = destroy_input;
    list->nvEncLockInputBuffer = lock_input;
    list->nvEncUnlockInputBuffer = nothing_to_unlock;
    list->nvEncCreateBitstreamBuffer = create_output;
    list->nvEncDestroyBitstreamBuffer = destroy_output;
    list->nvEncLockBitstream = lock_output;
    list->nvEncUnlockBitstream = nothing_to_unlock;
    list->nvEncEncodePicture = encode;
    list->nvEncSetIOCudaStreams = set_streams;
    list->nvEncReconfigureEncoder = no_reconfiguring;
    list->nvEncRegisterResource = no_registering;
    return NV_ENC_SUCCESS;
}
