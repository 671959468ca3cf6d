"""What people are told: how far a film is, and what became of it.

Uses the standard library only.

Public:

    film_report: FilmReport
    progress: Progress, Snapshot
"""
