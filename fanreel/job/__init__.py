"""What a person asks for: one model a kind of film, its fields, and its mistakes in words.

Uses codecs and errors.

Public:

    mistakes: explain_mistakes
    slideshow: EncoderChoice, Encoding, Fallback, Move, OnBadPhoto, Preset, Slide, SlideshowJob, Strategy,
        parse_job
"""
