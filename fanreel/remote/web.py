"""Downloads from the web, bounded in size, time, redirects, and in whom they may come from.

The name of a host is resolved once; the address that was checked is the one that is connected to, so that no name
server can show one address to the check and another to the connection. No proxy is used.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import urljoin

from urllib3 import HTTPResponse
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.util import Url, parse_url

from fanreel.errors import (
    InvalidJobError,
    NotAllowedError,
    PhotoNotFoundError,
    StorageAwayError,
    StorageError,
    UnreadablePhotoError,
    storage_error,
)
from fanreel.remote.locations import check_allowed, shown_location
from fanreel.remote.web_addresses import connect, resolve
from fanreel.settings import Settings

__all__ = ["WebVersion", "download"]

MOST_REDIRECTS = 5

IDLE_SECONDS = 30.0
"""A server that says nothing for so long is given up."""

READ_BYTES = 1 << 16

REDIRECTS = (301, 302, 303, 307, 308)
GONE = (404, 410)
REFUSED = (401, 403)
BUSY = (408, 425, 429)
UNCHANGED = 304

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class WebVersion:
    """What a server calls the bytes it gave, to be asked later whether they are still the same.

    Attributes:
        etag: Its ETag; empty if it gave none.
        modified: Its Last-Modified; empty if it gave none.
    """

    etag: str = ""
    modified: str = ""


def download(url: str, path: Path, *, settings: Settings, known: WebVersion | None = None) -> WebVersion | None:
    """Write what a web address holds to `path`; return its version, or None if it is `known`, which writes nothing.

    Args:
        url: ``http://`` or ``https://``; its query is shown nowhere.
        path: A file in a folder that exists; where it fails, half a file may be left there.
        settings: Bounds, and which hosts with private addresses are allowed.
        known: The version that is here already.

    Raises:
        InvalidJobError: The address is none, or holds a password.
        NotAllowedError: It leads to where this host may not go.
        PhotoNotFoundError: There is nothing.
        UnreadablePhotoError: It is too large, or not for us.
        StorageAwayError: The server does not answer in time, or cannot for now.
        StorageError: The connection is not safe, or the file cannot be written.
    """
    with _Deadline(settings.download_seconds) as deadline:
        try:
            return _follow(url, path, settings, known or WebVersion(), deadline)
        except (HTTPError, http.client.HTTPException, OSError) as error:
            raise _explain(error, shown_location(url), deadline) from None


class _Deadline:
    """Ends a connection when its time is over, whatever is being waited for: headers and bodies may drip for ever."""

    def __init__(self, seconds: float) -> None:
        self._ends_at = time.monotonic() + seconds
        self._seconds = seconds
        self._lock = threading.Lock()
        self._watched: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self.watch(None)

    @property
    def left_seconds(self) -> float:
        return self._ends_at - time.monotonic()

    def watch(self, opened: socket.socket | None) -> None:
        """End this connection, if there is one, and no other, when the time is over."""
        with self._lock:
            if self._watched is not None:
                self._watched.close()
            # A descriptor of our own: TLS takes the connection's over.
            self._watched = opened.dup() if opened is not None else None
        self._end_if_over()

    def check(self, shown: str) -> None:
        """Raise `StorageAwayError` if the time is over: the end of what came may then be of our own making."""
        if self.left_seconds <= 0:
            raise StorageAwayError(
                f"{shown}: not here after {self._seconds:g} s; FANREEL_DOWNLOAD_SECONDS gives it more"
            )

    def _end_if_over(self) -> None:
        if self.left_seconds <= 0:
            self._end()

    def _end(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._watched is not None:
                self._watched.shutdown(socket.SHUT_RDWR)


def _follow(url: str, path: Path, settings: Settings, known: WebVersion, deadline: _Deadline) -> WebVersion | None:
    shown = shown_location(url)
    for _ in range(1 + MOST_REDIRECTS):
        address = _parsed(url)
        check_allowed(url, settings=settings)
        with _answer(address, settings, known, deadline) as response:
            if response.status not in REDIRECTS:
                return _take(response, path, settings, known, deadline, shown=shown)
            following = response.headers.get("Location", "")
        url = _next(url, following)
    raise NotAllowedError(f"{shown}: redirected more than {MOST_REDIRECTS} times; give the address where it ends")


def _parsed(url: str) -> Url:
    shown = shown_location(url)
    if not url.isprintable() or re.search(r"[\s\\]", url):
        raise InvalidJobError(f"{shown}: no web address: it has spaces, backslashes or control characters")
    try:
        address = parse_url(url)
    except LocationParseError:
        raise InvalidJobError(f"{shown}: no web address") from None
    if address.auth is not None:
        raise InvalidJobError(f"{shown}: an address with a user's name and password is not taken")
    if not address.host or address.scheme not in _PORTS:
        raise InvalidJobError(f"{shown}: no web address; http:// or https://, and the name of a host")
    return address


def _next(url: str, location: str) -> str:
    """Return where a redirect leads; what of it is not allowed is found when it is followed."""
    if not location:
        raise UnreadablePhotoError(f"{shown_location(url)}: redirected to nowhere")
    following = urljoin(url, location)
    scheme = following.partition("://")[0].lower()
    if scheme not in _PORTS:
        raise NotAllowedError(f"{shown_location(url)}: redirected to what is no web address")
    if url.lower().startswith("https:") and scheme != "https":
        raise NotAllowedError(f"{shown_location(url)}: redirected from https to http, where anyone may change it")
    return following


@contextlib.contextmanager
def _answer(address: Url, settings: Settings, known: WebVersion, deadline: _Deadline) -> Iterator[HTTPResponse]:
    """Yield the answer of the server at `address`, its headers read."""
    host, scheme = (address.host or "").strip("[]"), address.scheme or ""
    port, shown = address.port or _PORTS[scheme], shown_location(address.url)
    addresses = resolve(host, port, private_hosts=settings.private_hosts, shown=shown)
    deadline.check(shown)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(contextlib.closing(connect(addresses, seconds=deadline.left_seconds)))
        deadline.watch(opened)
        opened.settimeout(IDLE_SECONDS)
        if scheme == "https":
            secured = ssl.create_default_context().wrap_socket(opened, server_hostname=host)
            opened = stack.enter_context(contextlib.closing(secured))
        connection = HTTPConnection(host, port, timeout=IDLE_SECONDS)
        connection.sock = opened
        stack.callback(connection.close)
        connection.request("GET", address.request_uri, headers=_headers(address, known), preload_content=False)
        response = connection.getresponse()
        stack.callback(response.close)
        yield response


def _headers(address: Url, known: WebVersion) -> dict[str, str]:
    # As browsers write it, since signatures are made of it: the port only where it is not the scheme's own.
    port = f":{address.port}" if address.port not in (None, _PORTS[address.scheme or ""]) else ""
    headers = {"Host": f"{address.host}{port}", "User-Agent": "fanreel", "Accept-Encoding": "identity"}
    if known.etag:
        headers["If-None-Match"] = known.etag
    if known.modified:
        headers["If-Modified-Since"] = known.modified
    return headers


def _take(
    response: HTTPResponse, path: Path, settings: Settings, known: WebVersion, deadline: _Deadline, *, shown: str
) -> WebVersion | None:
    status, most = response.status, settings.max_download_bytes
    if status == UNCHANGED and known != WebVersion():
        return None
    if status in GONE:
        raise PhotoNotFoundError(f"{shown}: the server has no such file ({status})")
    if status >= 500 or status in BUSY:
        raise StorageAwayError(f"{shown}: the server cannot answer for now ({status})")
    if status != 200:
        hint = "; is the address still valid?" if status in REFUSED else ""
        raise UnreadablePhotoError(f"{shown}: the server refuses ({status}){hint}")
    too_large = UnreadablePhotoError(
        f"{shown}: over {most / 1e6:g} MB; FANREEL_MAX_DOWNLOAD_MEGABYTES raises the bound"
    )
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > most:
        raise too_large
    size_bytes = 0
    with _opened(path) as file:
        for piece in response.stream(READ_BYTES, decode_content=False):
            size_bytes += len(piece)
            if size_bytes > most:
                raise too_large
            _write(file, piece, path)
    deadline.check(shown)
    return WebVersion(response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""))


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise storage_error(error, doing=f"write {path}") from error


def _write(file: BinaryIO, piece: bytes, path: Path) -> None:
    """Write at once, so that a full disk is not taken for a broken connection when the file is closed."""
    try:
        file.write(piece)
        file.flush()
    except OSError as error:
        raise storage_error(error, doing=f"write {path}") from error


def _explain(error: Exception, shown: str, deadline: _Deadline) -> StorageError:
    """Return the error for what the network did. It has none of the libraries' texts, which may hold the address."""
    deadline.check(shown)
    if isinstance(error, ssl.SSLCertVerificationError):
        return StorageError(f"{shown}: its certificate is not valid ({error.verify_message})")
    return StorageAwayError(f"{shown}: the server does not answer ({type(error).__name__})")
