"""A web server on the loopback interface whose answers tests write themselves, byte by byte if they like."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One request, which the answer of its path answers."""

    server: _Server

    def do_GET(self) -> None:
        """Note the request and answer it."""
        self.server.of.requests.append((self.path, dict(self.headers)))
        answer = self.server.of.answers.get(self.path.partition("?")[0])
        with contextlib.suppress(ConnectionError, BrokenPipeError, ssl.SSLError):
            (answer or say(404))(self)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that leave are what is tried here."""


class WebServer:
    """A server.

    Attributes:
        requests: Path and headers of all that was asked, in order.
        answers: What answers a path.
        over: Set when the server ends, for answers that wait.
    """

    def __init__(self, *, address: str = "127.0.0.1", port: int = 0, certificate: Path | None = None) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.answers: dict[str, Answer] = {}
        self.over = threading.Event()
        self._server = _Server((address, port), Handler)
        self._server.of = self
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_port
        scheme = "https" if certificate else "http"
        self.url = f"{scheme}://{address}:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def paths(self) -> list[str]:
        """The paths that were asked for, with their queries."""
        return [path for path, _ in self.requests]

    def close(self) -> None:
        """End it."""
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def serve_web(**words: object) -> Iterator[WebServer]:
    """Run a server."""
    server = WebServer(**words)
    try:
        yield server
    finally:
        server.close()


def say(status: int, body: bytes = b"", *, headers: Mapping[str, str] = {}) -> Answer:
    """Return an answer that is always the same."""

    def answer(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def redirect(url: str, *, status: int = 302) -> Answer:
    """Return an answer that sends elsewhere."""
    return say(status, headers={"Location": url})


def versioned(body: bytes, *, header: str, question: str, version: str) -> Answer:
    """Return an answer with a version, which is 304 to who has it already."""

    def answer(handler: Handler) -> None:
        if handler.headers.get(question) == version:
            say(304, headers={header: version})(handler)
        else:
            say(200, body, headers={header: version})(handler)

    return answer


def drip(server: WebServer, data: bytes) -> Answer:
    """Return an answer that comes a byte at a time, the status line and the headers too, for as long as it takes."""

    def answer(handler: Handler) -> None:
        for place in range(len(data)):
            handler.wfile.write(data[place : place + 1])
            if server.over.wait(0.02):
                return
        server.over.wait(120)

    return answer
