"""Sound as a film has it: an AAC track, interleaved by the join.

Uses mp4 and below.

Public:

    track: AudioTrack
"""
