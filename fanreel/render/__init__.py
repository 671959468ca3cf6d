"""The film run: from a job to published films, the same for every front.

Uses every other room of the engine.

Public:

    draft: Draft
    film_run: FilmRun, FilmStoppedError, FilmWatcher
    here: plan_job, render_job, render_segments
    inbox: make_inbox_film
    order: RenderOrder, describe_order, find_present, order_run
"""
