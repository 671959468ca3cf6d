"""The commands `fanreel store`: list, verify and prune the segment store."""

from __future__ import annotations

import argparse
import re
import sys
import time
from typing import TYPE_CHECKING

from fanreel.cli.parser import CommandParser
from fanreel.errors import RequestError, VerificationError
from fanreel.printable import counted

if TYPE_CHECKING:
    from fanreel.store.files import StoredFiles
    from fanreel.store.inventory import Inventory, Item, StoredFilm

__all__ = ["add_store_command"]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BYTES |= {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def add_store_command(store: CommandParser) -> None:
    """Give the parser of `fanreel store` its commands."""
    commands = store.add_commands()
    listing = commands.add("ls", "show the films in it, and how much it holds of each kind")
    listing.set_defaults(run=_list)
    verify = commands.add("verify", "read everything in it and check it")
    verify.add_argument("--discard", action="store_true", help="remove what is damaged; it is made again when needed")
    verify.set_defaults(run=_verify)
    prune = commands.add("prune", "remove what was not used for long, or what exceeds a size")
    prune.add_argument("--older-than", type=_duration, metavar="30d", help="remove what was not used for this long")
    prune.add_argument(
        "--max-size", type=_size, metavar="200G", help="remove the least recently used, down to this much"
    )
    prune.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    prune.set_defaults(run=_prune)


def _duration(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhdw])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; a number and s, m, h, d or w, such as 30d")
    return float(match[1]) * _SECONDS[match[2]]


def _size(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([KMGT]?I?)B?", text.upper())
    if match is None or match[2] not in _BYTES:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; bytes, or a number and K, M, G or T, such as 200G")
    return round(float(match[1]) * _BYTES[match[2]])


def _list(options: argparse.Namespace) -> int:
    from fanreel.store.inventory import Kind, take_inventory

    files = _open_files()
    inventory = take_inventory(files)
    print(files)
    for film in inventory.films:
        print(_describe_film(film))
    for kind, name in ((Kind.SEGMENT, "segments"), (Kind.PHOTO, "photos"), (Kind.PLAN, "plans")):
        print(_describe_items(name, inventory.of(kind)))
    rest = inventory.of(Kind.DRAFT, Kind.ORPHAN)
    if rest:
        print(_describe_items("unfinished", rest))
    print(f"{'films':<12}{len(inventory.films):>8}   {_describe_states(inventory)}")
    for name in inventory.unreadable:
        print(f"fanreel: {name} cannot be read; `fanreel store verify` says why", file=sys.stderr)
    return 0


def _verify(options: argparse.Namespace) -> int:
    from fanreel.store.check import check_store, discard_items

    files = _open_files()
    checked = check_store(files)
    for found in checked.damaged:
        print(found)
    count = len(checked.damaged)
    print(f"{files}: {checked.item_count} items, {_bytes(checked.size_bytes)}, {count} damaged")
    if not count:
        return 0
    if options.discard:
        discard_items(files, checked.damaged)
        print(f"{count} removed; they are made again when a film needs them")
    return VerificationError.exit_code


def _prune(options: argparse.Namespace) -> int:
    from fanreel.store.prune import prune_store

    if options.older_than is None and options.max_size is None:
        raise RequestError("give --older-than 30d, --max-size 200G, or both")
    files = _open_files()
    pruned = prune_store(files, older_seconds=options.older_than, max_bytes=options.max_size, dry_run=options.dry_run)
    if options.dry_run:
        for item in pruned.removed:
            print(f"{item.kind:<8} {_bytes(item.size_bytes):>10}   last used {_date(item.used_at)}   {item.names[0]}")
    went = f"{len(pruned.removed)} items {'would be removed' if options.dry_run else 'removed'}"
    print(f"{files}: {went}, {_bytes(pruned.removed_bytes)}; {_bytes(pruned.kept_bytes)} left")
    if pruned.uploads:
        print(f"{pruned.uploads} uploads that had never ended were removed too")
    if pruned.over_bytes:
        print(
            f"that is {_bytes(pruned.over_bytes)} too much: films in work need the rest, or it is younger than an hour"
        )
    return 0


def _open_files() -> StoredFiles:
    from fanreel.settings import read_settings
    from fanreel.store.open import open_store

    return open_store(read_settings()).files


def _describe_film(film: StoredFilm) -> str:
    manifest = film.manifest
    there = f"{film.segments_there} of {counted(len(manifest.segments), 'segment')}"
    return f"{manifest.name:<24} {there:<24} {_state(film):<28} {manifest.output}"


def _state(film: StoredFilm) -> str:
    if film.manifest.published_at:
        return f"published {_date(film.manifest.published_at)}"
    if film.is_in_work and film.manifest.stopped_at:
        return f"stopped {_date(film.manifest.stopped_at)}"
    return f"{'in work' if film.is_in_work else 'given up'}, begun {_date(film.manifest.begun_at)}"


def _describe_states(inventory: Inventory) -> str:
    published = sum(bool(film.manifest.published_at) for film in inventory.films)
    needed = [film for film in inventory.films if film.is_in_work]
    stopped = sum(bool(film.manifest.stopped_at) for film in needed)
    given_up = len(inventory.films) - len(needed) - published
    return f"{len(needed) - stopped} in work, {stopped} stopped, {published} published, {given_up} given up"


def _describe_items(name: str, items: list[Item]) -> str:
    return f"{name:<12}{len(items):>8}   {_bytes(sum(item.size_bytes for item in items)):>10}"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(min(max(seconds, 0.0), 4e9)))


def _bytes(count: int) -> str:
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"
