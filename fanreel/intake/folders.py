"""Folders of this machine: what lies in them, which files a pattern matches, what a name is called on the disk."""

from __future__ import annotations

import glob
import itertools
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from fanreel.errors import NotAllowedError, PhotoNotFoundError
from fanreel.photos.names import is_photo_name, natural_order
from fanreel.printable import printable
from fanreel.remote.locations import check_allowed
from fanreel.settings import Settings

__all__ = ["Folders", "composed", "each_file_once", "is_folder", "same_name"]

MOST_COUNTED = 10_000
"""Most files below a sub-folder that are looked at to count its photos: nobody asked for these."""

_Identity = tuple[int, int] | str


class Folders:
    """Looks into folders, each time only where this host's jobs may read. What is hidden is passed over.

    Args:
        settings: Their roots say where.

    Attributes:
        refused: Folders below those that were asked for that may not be read, each with the reason.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.refused: list[str] = []

    def find(self, path: str) -> str:
        """Return a path as it is on the disk; names may differ from those asked for in their Unicode composition.

        A path that does not exist is returned as it is.

        Raises:
            PhotoNotFoundError: Several names could be meant.
            OSError: A folder cannot be read.
        """
        if path.isascii() or os.path.lexists(path):
            return path
        found, *parts = Path(path).parts
        for part in parts:
            step = os.path.join(found, part)  # noqa: PTH118
            if not os.path.lexists(step):
                step = same_name(part, (entry.name for entry in self.entries(found)), shown=path)
                if not step:
                    return path
                step = os.path.join(found, step)  # noqa: PTH118
            found = step
        return found

    def entries(self, folder: str, *, hidden: bool = False) -> list[os.DirEntry[str]]:
        """Return what lies in a folder; the paths of the entries have no links above them where there are roots.

        Raises:
            NotAllowedError: This host's jobs may not read it.
            OSError: It cannot be read.
        """
        check_allowed(folder, settings=self._settings)
        # The path that was checked: a link may lead elsewhere a moment later.
        with os.scandir(os.path.realpath(folder) if self._settings.roots else folder) as found:
            return sorted((entry for entry in found if hidden or entry.name[0] != "."), key=lambda entry: entry.name)

    def match(self, folder: str, parts: Sequence[str]) -> Iterator[str]:
        """Yield the files below a folder that a pattern matches; a file may come several times.

        Args:
            folder: Where the pattern starts.
            parts: Its parts. `**` is any number of folders. Links to folders are followed, each folder once.

        Raises:
            NotAllowedError: It leads into a folder that this host's jobs may not read.
            OSError: A disk fails.
        """
        yield from self._match(folder, [*parts, "*"] if parts[-1] == "**" else parts, set())

    def below(self, folder: str, *, is_asked: bool = True) -> Iterator[str]:
        """Yield a folder and all folders below it, each once, whatever links there are.

        Args:
            folder: Where to start.
            is_asked: Someone asked for these folders. Else links are not followed, nor is it told what cannot be read.
        """
        seen: set[_Identity] = set()
        waiting, links = [folder], []
        while waiting or links:
            # Links come last: a folder is listed under its own name, if it has one here.
            present = waiting.pop() if waiting else links.pop(0)
            if (identity := _identity(present)) in seen:
                continue
            seen.add(identity)
            yield present
            for entry in self._entries_below(present, is_asked=is_asked):
                if is_folder(entry) and (is_asked or not entry.is_symlink()):
                    (links if entry.is_symlink() else waiting).append(os.path.join(present, entry.name))  # noqa: PTH118

    def count_photos(self, folder: str) -> int:
        """Return how many photos lie in a folder and below it, for people; of very many, a part."""
        names = (
            entry.name
            for inner in self.below(folder, is_asked=False)
            for entry in self._entries_below(inner, is_asked=False)
            if not is_folder(entry)
        )
        return sum(map(is_photo_name, itertools.islice(names, MOST_COUNTED)))

    def _match(self, folder: str, parts: Sequence[str], done: set[tuple[_Identity, int]]) -> Iterator[str]:
        if not parts:
            if not os.path.isdir(folder):  # noqa: PTH112
                yield folder
            return
        state = (_identity(folder), len(parts))
        if state in done:  # by another link
            return
        done.add(state)
        part, rest = parts[0], parts[1:]
        if part == "**":
            for inner in self.below(folder):
                yield from self._match(inner, rest, done)
        elif glob.has_magic(part):
            for entry in self._entries_below(folder, hidden=part.startswith(".")):
                if fnmatchcase(composed(entry.name), composed(part)) and (not rest or is_folder(entry)):
                    yield from self._match(os.path.join(folder, entry.name), rest, done)  # noqa: PTH118
        else:
            path = self.find(os.path.join(folder, part))  # noqa: PTH118
            if os.path.isdir(path) if rest else os.path.lexists(path):  # noqa: PTH112
                yield from self._match(path, rest, done)

    def _entries_below(self, folder: str, *, is_asked: bool = True, hidden: bool = False) -> list[os.DirEntry[str]]:
        """Return what lies in a folder that a pattern has led to; nothing if it is gone, or may not be read."""
        try:
            return self.entries(folder, hidden=hidden)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except (NotAllowedError, OSError) as error:
            if not is_asked:
                return []
            if not isinstance(error, PermissionError):
                raise
            line = f"{printable(folder)}: {error.strerror}; let this user read it"
            self.refused += [] if line in self.refused else [line]
            return []


def same_name(name: str, names: Iterable[str], *, shown: str) -> str:
    """Return the one of `names` that differs from `name` in its Unicode composition only; an empty string if none does.

    Raises:
        PhotoNotFoundError: Several do.
    """
    found = [other for other in names if composed(other) == composed(name)]
    if len(found) > 1:
        raise PhotoNotFoundError(
            f"{printable(shown)}: no such file; {len(found)} names differ from it in nothing but how their letters are "
            "composed (Unicode NFC, NFD): rename them, or name the folder"
        )
    return found[0] if found else ""


def each_file_once(paths: Iterable[str]) -> list[str]:
    """Return the paths in natural order, without those that lead to a file that another one names too."""
    chosen: dict[_Identity, str] = {}
    for path in sorted(paths, key=lambda path: (os.path.realpath(path) != path, natural_order(path))):
        chosen.setdefault(_identity(path), path)
    return sorted(chosen.values(), key=natural_order)


def _identity(path: str) -> _Identity:
    try:
        status = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return path
    # Some network file systems number nothing.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def composed(text: str) -> str:
    """Return a text in the one Unicode composition in which names are compared."""
    return unicodedata.normalize("NFC", text)
