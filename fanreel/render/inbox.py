"""Making the films of an inbox: each one once, whichever of several runs comes first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fanreel.batches.inbox_films import (
    FilmState,
    InboxOrder,
    InboxRow,
    content_digest,
    is_done,
    path_below,
    row_of_broken_film,
)
from fanreel.batches.inbox_records import MadeFilm, open_records
from fanreel.errors import FanreelError
from fanreel.job.film import FilmJob
from fanreel.printable import printable
from fanreel.report.film_report import FilmReport

__all__ = ["make_inbox_film"]


def make_inbox_film(row: InboxRow, order: InboxOrder, *, render: Callable[[FilmJob], FilmReport]) -> InboxRow:
    """Make the film of a row that is to be made, unless another run does or did; return what became of it.

    Args:
        row: As `look_into_inbox` returned it.
        order: As it was given there.
        render: Makes a film. What it raises as a `FanreelError` makes the row a broken one.
    """
    film = row.film
    if row.state is not FilmState.TO_MAKE or film is None:
        return row
    records, name = open_records(order.films), film.folder.name
    try:
        with records.claim(name) as is_ours:
            if not is_ours:
                return replace(row, state=FilmState.WAITING, detail="another run is making it")
            if is_done(film, records, order):
                return replace(row, state=FilmState.DONE, detail=printable(film.output))
            content = content_digest(film.folder)
            report = render(film.job)
            made = MadeFilm(
                film=path_below(order.films, report.film),
                size_bytes=report.size_bytes,
                job_digest=film.job_digest,
                listing=film.folder.listing_digest(),
                content=content,
            )
            records.write(name, made)
    except FanreelError as error:
        return row_of_broken_film(row, error)
    return replace(
        row,
        state=FilmState.RENDERED,
        detail=printable(report.film),
        notes=(*row.notes, *report.notes, *report.left_out),
    )
