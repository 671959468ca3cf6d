"""What people are told about a film: its plan, its progress, and a report when it is done.

Uses plan and the single files.

Public:

    film_plan_text: describe_plan
    film_report: FilmReport
    progress: Progress, Snapshot
"""
