"""What people are told about a film: its progress, and a report when it is done.

Uses the standard library only.

Public:

    film_report: FilmReport
    progress: Progress, Snapshot
"""
