"""Many films at once: a table in which every row is a film, and an inbox in which every folder becomes one.

Uses intake and below.

Public:

    batch: BatchRow, RowFailure, read_batch
    inbox: CompleteWhen, JOB_FILES, LONGEST_QUIET_SECONDS
    inbox_films: FilmState, InboxOrder, InboxRow, content_digest, is_done, look_into_inbox, order_inbox, path_below,
        row_of_broken_film
    inbox_records: MadeFilm, open_records
"""
