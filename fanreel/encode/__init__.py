"""Encoders and their faults: planes in, packets out, one contract for all of them.

Uses plan and below.

Public:

    encoder: Encoder, open_encoder
    libav: EncodedPacket, plane_views, BT709, LIMITED_RANGE
    nvenc_faults: classify_fault
    nvenc_probe: count_engines, try_codec
"""
