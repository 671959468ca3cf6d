"""Turn media jobs into finished films by rendering segments in parallel on every encoder there is.

    reports = fanreel.render(fanreel.SlideshowJob(photos=["photos"], output="film.mp4"))

`render` and `plan` take a job, a mapping of its keys, or the path of a job file. `SlideshowJob` is the job, with
`Slide` and `Encoding` inside; what is wrong with it is an `InvalidJobError`, and every error of fanreel is a
`FanreelError`. A `FilmReport` says what became of a film.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fanreel.errors import (
    EncoderError,
    FanreelError,
    InvalidJobError,
    MediaError,
    NotAllowedError,
    OutputExistsError,
    PhotoNotFoundError,
    RequestError,
    StorageError,
    UnreadablePhotoError,
    VerificationError,
)

if TYPE_CHECKING:
    from fanreel.api import plan, render
    from fanreel.job.encoding import Encoding
    from fanreel.job.slideshow import Slide, SlideshowJob
    from fanreel.plan.film import FilmPlan
    from fanreel.report.film_report import FilmReport
    from fanreel.report.progress import Snapshot

    __version__: str

__all__ = [
    "EncoderError",
    "Encoding",
    "FanreelError",
    "FilmPlan",
    "FilmReport",
    "InvalidJobError",
    "MediaError",
    "NotAllowedError",
    "OutputExistsError",
    "PhotoNotFoundError",
    "RequestError",
    "Slide",
    "SlideshowJob",
    "Snapshot",
    "StorageError",
    "UnreadablePhotoError",
    "VerificationError",
    "plan",
    "render",
]

_HOMES = {
    "Encoding": "fanreel.job.encoding",
    "FilmPlan": "fanreel.plan.film",
    "FilmReport": "fanreel.report.film_report",
    "Slide": "fanreel.job.slideshow",
    "SlideshowJob": "fanreel.job.slideshow",
    "Snapshot": "fanreel.report.progress",
}
"""Where what is loaded when it is first asked for lives: `import fanreel` is done in a few milliseconds."""

_CALLED_ROOMS = ("plan", "render")
"""Functions of `fanreel.api` whose names rooms have too: whoever calls such a room calls the function."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 -- whatever has this name
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _CALLED_ROOMS:
        return import_module(f"fanreel.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("fanreel")
    raise AttributeError(f"module 'fanreel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _CalledRoom(ModuleType):
    """A room that is also the function of `fanreel.api` of its name."""

    def __call__(self, *arguments: Any, **words: Any) -> Any:  # noqa: ANN401 -- those of the function
        return getattr(import_module("fanreel.api"), self.__name__.rpartition(".")[2])(*arguments, **words)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        # So the import system puts each room here, whoever imports it first.
        if name in _CALLED_ROOMS and isinstance(value, ModuleType):
            value.__class__ = _CalledRoom
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
