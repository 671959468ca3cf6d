"""From a job to sources on this machine: job files, photos, batches, inboxes.

Uses store, photos, remote and below.

Public:

    batch: BatchRow, RowFailure, read_batch
    inbox: CompleteWhen, LONGEST_QUIET_SECONDS
    inbox_films: FilmState, InboxOrder, InboxRow, content_digest, is_done, look_into_inbox, order_inbox, path_below,
        row_of_broken_film
    inbox_records: MadeFilm, open_records
    photo_sharing: localize_photos, share_photos
    sources: fetch_sources, load_job, output_location
"""
