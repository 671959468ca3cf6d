"""The film run: from a job to published films, the same for every front.

Uses every other room of the engine.

Public:

    film: Draft, destination_of, join_film, publish_film, report_film
    film_state: begin_film, mark_published
    inbox: make_inbox_film
    order: RenderOrder, find_present, order_in_pools, order_render, order_run
    pipeline: plan_job, render_job
    shard: ShardWatch, render_shard
"""
