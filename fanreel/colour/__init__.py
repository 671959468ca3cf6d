"""Colours: what the samples of a picture mean, brought to sRGB.

Uses nothing of fanreel.

Public:

    profiles: BAND_ROWS, convert_rows, to_srgb
"""
