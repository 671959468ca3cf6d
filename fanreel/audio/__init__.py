"""The sound of a film: an AAC track, which the join interleaves.

Uses mp4 and below.

Public:

    track: AudioTrack
"""
