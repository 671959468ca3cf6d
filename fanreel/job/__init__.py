"""What a person asks for: one model a kind of film, its fields, and its mistakes in words.

Uses codecs and errors.

Public:

    encoding: Encoding, Fallback, Preset
    fields: one_as_list
    film: FilmJob, FilmKind
    machines: MACHINE_KEYS, Machines, Strategy, gather_machines
    mistakes: explain_mistakes, place_of
    parse: check_job, job_model, parse_job
    slideshow: Fit, Move, OnBadPhoto, Pairs, Slide, SlideshowJob
"""
