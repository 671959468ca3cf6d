/* What a card can do, and how libx264 is opened for what a client asks of it. See encode.c. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "session.h"

#define MIN_WIDTH 145
#define MIN_HEIGHT 49
#define MAX_SIDE 4096
#define TEXT(macro) TEXT_(macro)
#define TEXT_(macro) #macro

struct x264_functions x264;

/* The client's libavcodec brings an x264 of its own with the same names: neither may bind to the other's. */
static int load_x264(void)
{
    void *library = dlopen("libx264.so." TEXT(X264_BUILD), RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);

    if (!library)
        return 0;
    *(void **)&x264.close = dlsym(library, "x264_encoder_close");
    *(void **)&x264.encode = dlsym(library, "x264_encoder_encode");
    *(void **)&x264.headers = dlsym(library, "x264_encoder_headers");
    *(void **)&x264.delayed = dlsym(library, "x264_encoder_delayed_frames");
    *(void **)&x264.preset = dlsym(library, "x264_param_default_preset");
    *(void **)&x264.profile = dlsym(library, "x264_param_apply_profile");
    *(void **)&x264.init = dlsym(library, "x264_picture_init");
    *(void **)&x264.open = dlsym(library, TEXT(x264_encoder_open));
    return x264.open && x264.encode && x264.preset;
}

NVENCSTATUS fail(struct session *session, NVENCSTATUS code, const char *text)
{
    snprintf(session->error, sizeof session->error, "%s", text);
    return code;
}

static int same(GUID one, GUID other)
{
    return memcmp(&one, &other, sizeof one) == 0;
}

/* H.264 and nothing else: a client that asks for another codec finds it missing in this list. */
static NVENCSTATUS one(void *encoder, uint32_t *count)
{
    (void)encoder;
    *count = 1;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS codecs(void *encoder, GUID *guids, uint32_t size, uint32_t *count)
{
    if (size < 1)
        return NV_ENC_ERR_INVALID_PARAM;
    guids[0] = NV_ENC_CODEC_H264_GUID;
    return one(encoder, count);
}

static const NV_ENC_BUFFER_FORMAT FORMATS[] = {
    NV_ENC_BUFFER_FORMAT_NV12, NV_ENC_BUFFER_FORMAT_YV12, NV_ENC_BUFFER_FORMAT_IYUV,
};

static NVENCSTATUS format_count(void *encoder, GUID codec, uint32_t *count)
{
    (void)encoder, (void)codec;
    *count = sizeof FORMATS / sizeof *FORMATS;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS formats(void *encoder, GUID codec, NV_ENC_BUFFER_FORMAT *found, uint32_t size, uint32_t *count)
{
    format_count(encoder, codec, count);
    *count = size < *count ? size : *count;
    memcpy(found, FORMATS, *count * sizeof *found);
    return NV_ENC_SUCCESS;
}

static const GUID *const PRESETS[] = {
    &NV_ENC_PRESET_P1_GUID, &NV_ENC_PRESET_P2_GUID, &NV_ENC_PRESET_P3_GUID, &NV_ENC_PRESET_P4_GUID,
    &NV_ENC_PRESET_P5_GUID, &NV_ENC_PRESET_P6_GUID, &NV_ENC_PRESET_P7_GUID,
};

static NVENCSTATUS preset_count(void *encoder, GUID codec, uint32_t *count)
{
    (void)encoder, (void)codec;
    *count = 7;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS presets(void *encoder, GUID codec, GUID *guids, uint32_t size, uint32_t *count)
{
    (void)encoder, (void)codec;
    *count = size < 7 ? size : 7;
    for (uint32_t i = 0; i < *count; i++)
        guids[i] = *PRESETS[i];
    return NV_ENC_SUCCESS;
}

static int preset_number(GUID preset)
{
    for (int i = 0; i < 7; i++)
        if (same(preset, *PRESETS[i]))
            return i + 1;
    return 4;
}

static NVENCSTATUS capability(void *encoder, GUID codec, NV_ENC_CAPS_PARAM *asked, int *value)
{
    struct session *session = encoder;
    struct settings settings;

    read_settings(session->gpu, &settings);
    if (!same(codec, NV_ENC_CODEC_H264_GUID))
        return fail(session, NV_ENC_ERR_UNSUPPORTED_PARAM, "Codec not supported.");
    switch (asked->capsToQuery) {
    case NV_ENC_CAPS_NUM_MAX_BFRAMES: *value = settings.max_b_frames; break;
    case NV_ENC_CAPS_SUPPORTED_RATECONTROL_MODES: *value = 0x3f; break;
    case NV_ENC_CAPS_LEVEL_MAX: *value = NV_ENC_LEVEL_H264_62; break;
    case NV_ENC_CAPS_LEVEL_MIN: *value = NV_ENC_LEVEL_H264_1; break;
    case NV_ENC_CAPS_WIDTH_MAX: case NV_ENC_CAPS_HEIGHT_MAX: *value = MAX_SIDE; break;
    case NV_ENC_CAPS_WIDTH_MIN: *value = MIN_WIDTH; break;
    case NV_ENC_CAPS_HEIGHT_MIN: *value = MIN_HEIGHT; break;
    case NV_ENC_CAPS_MB_NUM_MAX: *value = MAX_SIDE * MAX_SIDE / 256; break;
    case NV_ENC_CAPS_MB_PER_SEC_MAX: *value = 983040; break;
    case NV_ENC_CAPS_NUM_ENCODER_ENGINES: *value = settings.engines; break;
    case NV_ENC_CAPS_DYNAMIC_QUERY_ENCODER_CAPACITY: *value = 100 - busy_percent(session->gpu, &settings); break;
    case NV_ENC_CAPS_SUPPORT_CABAC: case NV_ENC_CAPS_SUPPORT_QPELMV: case NV_ENC_CAPS_SUPPORT_BDIRECT_MODE:
    case NV_ENC_CAPS_SUPPORT_ADAPTIVE_TRANSFORM: case NV_ENC_CAPS_SUPPORT_LOOKAHEAD:
    case NV_ENC_CAPS_SUPPORT_TEMPORAL_AQ: case NV_ENC_CAPS_SUPPORT_MULTIPLE_REF_FRAMES:
    case NV_ENC_CAPS_SUPPORT_CUSTOM_VBV_BUF_SIZE: *value = 1; break;
    case NV_ENC_CAPS_SUPPORT_BFRAME_REF_MODE: *value = 2; break;
    default: *value = 0;
    }
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS preset_config(void *encoder, GUID codec, GUID preset, NV_ENC_TUNING_INFO tuning,
                                 NV_ENC_PRESET_CONFIG *found)
{
    int b_frames = preset_number(preset) >= 3 &&
                   (tuning == NV_ENC_TUNING_INFO_HIGH_QUALITY || tuning == NV_ENC_TUNING_INFO_LOSSLESS);
    NV_ENC_CONFIG *config = &found->presetCfg;

    (void)encoder, (void)codec;
    /* As in the API's own words, B-frames come with P3 and up, for a client that asks for high quality. */
    config->frameIntervalP = b_frames ? 3 : 1;
    config->profileGUID = NV_ENC_H264_PROFILE_HIGH_GUID;
    config->gopLength = NVENC_INFINITE_GOPLENGTH;
    config->frameFieldMode = NV_ENC_PARAMS_FRAME_FIELD_MODE_FRAME;
    config->rcParams.rateControlMode = NV_ENC_PARAMS_RC_CONSTQP;
    config->rcParams.constQP.qpInterP = config->rcParams.constQP.qpIntra = 26;
    config->rcParams.constQP.qpInterB = 28;
    config->encodeCodecConfig.h264Config.chromaFormatIDC = 1;
    config->encodeCodecConfig.h264Config.idrPeriod = NVENC_INFINITE_GOPLENGTH;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS preset_config_old(void *encoder, GUID codec, GUID preset, NV_ENC_PRESET_CONFIG *found)
{
    return preset_config(encoder, codec, preset, NV_ENC_TUNING_INFO_UNDEFINED, found);
}

static void set_rate(x264_param_t *parameters, NV_ENC_RC_PARAMS *rate)
{
    if (rate->rateControlMode == NV_ENC_PARAMS_RC_CONSTQP) {
        parameters->rc.i_rc_method = X264_RC_CQP;
        parameters->rc.i_qp_constant = (int)rate->constQP.qpInterP;
    } else if (rate->targetQuality) {
        parameters->rc.i_rc_method = X264_RC_CRF;
        parameters->rc.f_rf_constant = rate->targetQuality + rate->targetQualityLSB / 256.0f;
    } else if (rate->averageBitRate) {
        parameters->rc.i_rc_method = X264_RC_ABR;
        parameters->rc.i_bitrate = (int)(rate->averageBitRate / 1000);
    }
}

static void set_colour(x264_param_t *parameters, NV_ENC_CONFIG_H264_VUI_PARAMETERS *vui)
{
    if (vui->videoSignalTypePresentFlag) {
        parameters->vui.i_vidformat = (int)vui->videoFormat;
        parameters->vui.b_fullrange = vui->videoFullRangeFlag != 0;
    }
    if (vui->colourDescriptionPresentFlag) {
        parameters->vui.i_colorprim = (int)vui->colourPrimaries;
        parameters->vui.i_transfer = (int)vui->transferCharacteristics;
        parameters->vui.i_colmatrix = (int)vui->colourMatrix;
    }
    if (vui->chromaSampleLocationFlag)
        parameters->vui.i_chroma_loc = (int)vui->chromaSampleLocationTop;
}

/* Nothing looks ahead and no keyframe comes unasked: a picture's packet is ready in the call that brings it, unless
 * B-frames hold it back. Without them x264 writes POC type 2. */
static void set_stream(x264_param_t *parameters, NV_ENC_INITIALIZE_PARAMS *asked)
{
    NV_ENC_CONFIG *config = asked->encodeConfig;
    NV_ENC_CONFIG_H264 *h264 = &config->encodeCodecConfig.h264Config;

    parameters->i_log_level = X264_LOG_NONE;
    parameters->i_threads = 1;
    parameters->i_lookahead_threads = 1;
    parameters->i_sync_lookahead = 0;
    parameters->rc.i_lookahead = 0;
    parameters->rc.b_mb_tree = 0;
    parameters->analyse.i_weighted_pred = X264_WEIGHTP_NONE;
    parameters->i_width = (int)asked->encodeWidth;
    parameters->i_height = (int)asked->encodeHeight;
    parameters->i_csp = X264_CSP_I420;
    parameters->i_fps_num = asked->frameRateNum ? asked->frameRateNum : 30;
    parameters->i_fps_den = asked->frameRateDen ? asked->frameRateDen : 1;
    parameters->b_vfr_input = 0;
    parameters->i_keyint_max =
        config->gopLength == NVENC_INFINITE_GOPLENGTH ? X264_KEYINT_MAX_INFINITE : (int)config->gopLength;
    parameters->i_scenecut_threshold = 0;
    parameters->b_open_gop = 0;
    parameters->i_bframe = config->frameIntervalP > 1 ? config->frameIntervalP - 1 : 0;
    parameters->i_bframe_adaptive = X264_B_ADAPT_NONE;
    parameters->i_bframe_pyramid = h264->useBFramesAsRef ? X264_B_PYRAMID_NORMAL : X264_B_PYRAMID_NONE;
    parameters->i_frame_reference = 1;
    parameters->b_cabac = h264->entropyCodingMode != NV_ENC_H264_ENTROPY_CODING_MODE_CAVLC;
    parameters->analyse.b_transform_8x8 = h264->adaptiveTransformMode != NV_ENC_H264_ADAPTIVE_TRANSFORM_DISABLE;
    parameters->i_sps_id = (int)h264->spsId;
    parameters->i_level_idc = h264->level ? (int)h264->level : -1;
    parameters->b_aud = h264->outputAUD;
    parameters->b_repeat_headers = !h264->disableSPSPPS;
    parameters->b_annexb = 1;
    set_rate(parameters, &config->rcParams);
    set_colour(parameters, &h264->h264VUIParameters);
}

static NVENCSTATUS initialize(void *encoder, NV_ENC_INITIALIZE_PARAMS *asked)
{
    static const char *const SPEEDS[] = {"ultrafast", "ultrafast", "superfast", "superfast", "veryfast",
                                         "faster",    "fast"};
    struct session *session = encoder;
    struct settings settings;
    NV_ENC_CONFIG *config = asked->encodeConfig;
    x264_param_t parameters;

    read_settings(session->gpu, &settings);
    if (!config || !same(asked->encodeGUID, NV_ENC_CODEC_H264_GUID))
        return fail(session, NV_ENC_ERR_UNSUPPORTED_PARAM, "Codec not supported.");
    if (asked->encodeWidth < MIN_WIDTH || asked->encodeHeight < MIN_HEIGHT)
        return fail(session, NV_ENC_ERR_INVALID_PARAM, "Frame Dimension less than the minimum supported value.");
    if (asked->encodeWidth > MAX_SIDE || asked->encodeHeight > MAX_SIDE)
        return fail(session, NV_ENC_ERR_INVALID_PARAM, "Frame Dimension exceeds the maximum supported value.");
    if (!x264.open && !load_x264())
        return fail(session, NV_ENC_ERR_GENERIC, "The emulated driver finds no libx264.");
    session->width = asked->encodeWidth;
    session->height = asked->encodeHeight;
    session->delay = settings.delay_pictures;
    if (config->rcParams.enableLookahead && config->rcParams.lookaheadDepth > session->delay)
        session->delay = config->rcParams.lookaheadDepth;
    x264.preset(&parameters, SPEEDS[preset_number(asked->presetGUID) - 1], NULL);
    set_stream(&parameters, asked);
    if (same(config->profileGUID, NV_ENC_H264_PROFILE_BASELINE_GUID))
        x264.profile(&parameters, "baseline");
    else if (same(config->profileGUID, NV_ENC_H264_PROFILE_MAIN_GUID))
        x264.profile(&parameters, "main");
    session->encoder = x264.open(&parameters);
    if (!session->encoder)
        return fail(session, NV_ENC_ERR_INVALID_PARAM, "libx264 takes no such settings.");
    shared_state()->slots[session->slot.index].width = session->width;
    shared_state()->slots[session->slot.index].height = session->height;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS sequence_parameters(void *encoder, NV_ENC_SEQUENCE_PARAM_PAYLOAD *asked)
{
    struct session *session = encoder;
    x264_nal_t *nals;
    uint32_t size = 0;
    int count;

    if (!session->encoder || x264.headers(session->encoder, &nals, &count) < 0)
        return fail(session, NV_ENC_ERR_ENCODER_NOT_INITIALIZED, "");
    for (int i = 0; i < count; i++) {
        if (nals[i].i_type != NAL_SPS && nals[i].i_type != NAL_PPS)
            continue;
        if (size + (uint32_t)nals[i].i_payload > asked->inBufferSize)
            return fail(session, NV_ENC_ERR_NOT_ENOUGH_BUFFER, "");
        memcpy((uint8_t *)asked->spsppsBuffer + size, nals[i].p_payload, (size_t)nals[i].i_payload);
        size += (uint32_t)nals[i].i_payload;
    }
    *asked->outSPSPPSPayloadSize = size;
    return NV_ENC_SUCCESS;
}

void list_setup_functions(NV_ENCODE_API_FUNCTION_LIST *list)
{
    list->nvEncGetEncodeGUIDCount = one;
    list->nvEncGetEncodeGUIDs = codecs;
    list->nvEncGetInputFormatCount = format_count;
    list->nvEncGetInputFormats = formats;
    list->nvEncGetEncodePresetCount = preset_count;
    list->nvEncGetEncodePresetGUIDs = presets;
    list->nvEncGetEncodeCaps = capability;
    list->nvEncGetEncodePresetConfig = preset_config_old;
    list->nvEncGetEncodePresetConfigEx = preset_config;
    list->nvEncInitializeEncoder = initialize;
    list->nvEncGetSequenceParams = sequence_parameters;
}
