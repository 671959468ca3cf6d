"""Colours: what the samples of a picture mean, brought to sRGB of 8 bits.

Uses nothing of fanreel.

Public:

    matrix_profiles: profile_signal
    profiles: BAND_ROWS, convert_rows, to_srgb
    samples: convert_samples, highlights_peak
    signals: ColourSignal
"""
