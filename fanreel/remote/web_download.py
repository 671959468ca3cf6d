"""Downloads from the web, bounded in size, time and redirects, and only from addresses that this host allows.

The name of a host is resolved once. The address that was checked is the one that is connected to: a name server cannot
give one address to the check and another to the connection. No proxy is used.
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
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, LocationParseError, NewConnectionError
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
from fanreel.remote.host_addresses import resolve
from fanreel.remote.locations import check_allowed, shown_location
from fanreel.settings import Settings

__all__ = ["WebVersion", "download"]

MOST_REDIRECTS = 5

CONNECT_SECONDS = 10.0
"""Longest wait for one address of a host; servers usually answer within one or two seconds."""

IDLE_SECONDS = 30.0
"""Longest wait for the next bytes of a server."""

READ_BYTES = 1 << 16

REDIRECTS = (301, 302, 303, 307, 308)
GONE = (404, 410)
REFUSED = (401, 403)
BUSY = (408, 425, 429)
UNCHANGED = 304

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class WebVersion:
    """A server's identifiers of the bytes that it sent, which tell later whether it still has the same.

    Attributes:
        etag: The header ETag; empty if there was none.
        modified: The header Last-Modified; empty if there was none.
    """

    etag: str = ""
    modified: str = ""


def download(url: str, path: Path, *, settings: Settings, known: WebVersion | None = None) -> WebVersion | None:
    """Download a URL to `path` and return its version. If that is `known`, write nothing and return None.

    Args:
        url: ``http://`` or ``https://``; its query, which may be secret, is never shown.
        path: A file in a folder that exists; an error may leave a part of the file there.
        settings: The bounds, and the hosts whose addresses may be private.
        known: The version that is already here.

    Raises:
        InvalidJobError: The URL is not valid, or contains a password.
        NotAllowedError: It, or a redirect, leads outside of what this host allows.
        PhotoNotFoundError: The server has no such file, or the host does not exist.
        UnreadablePhotoError: The file is too large, or the server refuses to send it.
        StorageAwayError: The server does not answer in time, or cannot for now.
        StorageError: The server's certificate is not valid, or the file cannot be written.
    """
    with _Deadline(settings.download_seconds) as deadline:
        try:
            return _follow(url, path, settings, known or WebVersion(), deadline)
        except (HTTPError, http.client.HTTPException, OSError) as error:
            raise _explain(error, shown_location(url), deadline) from None


class _Deadline:
    """Ends a connection when its time is over: a server that sends a byte now and then keeps any timeout of a read."""

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
        """End this connection when the time is over, in place of the one watched before; None watches nothing."""
        with self._lock:
            if self._watched is not None:
                self._watched.close()
            # A descriptor of its own, which neither TLS nor the end of the connection closes.
            self._watched = socket.fromfd(opened.fileno(), opened.family, opened.type) if opened else None
        self._end_if_over()

    def check(self, shown: str) -> None:
        """Raise `StorageAwayError` if the time is over: then the connection may have been ended here."""
        if self.left_seconds <= 0:
            raise StorageAwayError(
                f"{shown}: not downloaded after {self._seconds:g} s; FANREEL_DOWNLOAD_SECONDS allows more time"
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
    raise NotAllowedError(f"{shown}: redirected more than {MOST_REDIRECTS} times; give the URL where the redirects end")


def _parsed(url: str) -> Url:
    shown = shown_location(url)
    if not url.isprintable() or re.search(r"[\s\\]", url):
        raise InvalidJobError(
            f"{shown}: not a web URL: it contains a space, a backslash or a control character; write it as %20"
        )
    try:
        address = parse_url(url)
    except LocationParseError:
        raise InvalidJobError(f"{shown}: not a web URL; http:// or https://, and the name of a host") from None
    if address.auth is not None:
        raise InvalidJobError(f"{shown}: a URL with a user name or a password is not allowed; use a signed URL")
    if not address.host or address.scheme not in _PORTS:
        raise InvalidJobError(f"{shown}: not a web URL; http:// or https://, and the name of a host")
    return address


def _next(url: str, location: str) -> str:
    """Return the URL that a redirect leads to; whether it is allowed is checked when it is followed."""
    if not location:
        raise UnreadablePhotoError(f"{shown_location(url)}: the server redirects, but names no URL")
    following = urljoin(url, location)
    scheme = following.partition("://")[0].lower()
    if scheme not in _PORTS:
        raise NotAllowedError(f"{shown_location(url)}: redirected to something other than http:// or https://")
    if url.lower().startswith("https:") and scheme != "https":
        raise NotAllowedError(f"{shown_location(url)}: redirected from https to http, which is not encrypted")
    return following


@contextlib.contextmanager
def _answer(address: Url, settings: Settings, known: WebVersion, deadline: _Deadline) -> Iterator[HTTPResponse]:
    """Yield the server's response; its status and headers have been read."""
    with contextlib.closing(_connect(address, settings, deadline)) as connection:
        deadline.watch(connection.sock)
        connection.timeout = IDLE_SECONDS
        connection.request("GET", address.request_uri, headers=_headers(address, known), preload_content=False)
        with contextlib.closing(connection.getresponse()) as response:
            yield response


def _connect(address: Url, settings: Settings, deadline: _Deadline) -> HTTPConnection:
    """Return a connection to the first of a host's addresses that answers; TLS proves the host's name, not them."""
    host, port = (address.host or "").strip("[]"), address.port or _PORTS[address.scheme or ""]
    shown = shown_location(address.url)
    refused: HTTPError = HTTPError("no address")
    for number in resolve(host, port, private_hosts=settings.private_hosts, shown=shown):
        deadline.check(shown)
        # For TLS, the handshake is included.
        seconds = min(CONNECT_SECONDS, deadline.left_seconds)
        if address.scheme == "https":
            connection: HTTPConnection = HTTPSConnection(number, port, timeout=seconds, server_hostname=host)
        else:
            connection = HTTPConnection(number, port, timeout=seconds)
        try:
            connection.connect()
        except (NewConnectionError, ConnectTimeoutError) as error:
            refused = error
        else:
            return connection
    raise refused


def _headers(address: Url, known: WebVersion) -> dict[str, str]:
    # As browsers write it, because signatures include it: with the port only if it is not the scheme's default.
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
        hint = "; is the URL still valid?" if status in REFUSED else ""
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
    """Write without buffering: a full disk must be reported here, not as a broken connection when the file closes."""
    try:
        file.write(piece)
        file.flush()
    except OSError as error:
        raise storage_error(error, doing=f"write {path}") from error


def _explain(error: Exception, shown: str, deadline: _Deadline) -> StorageError:
    """Return the error for a failure of the network, without the library's text, which may contain the whole URL."""
    deadline.check(shown)
    if isinstance(error, ssl.SSLCertVerificationError):
        return StorageError(f"{shown}: its certificate is not valid ({error.verify_message})")
    return StorageAwayError(f"{shown}: the server does not answer ({type(error).__name__})")
