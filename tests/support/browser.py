"""A headless Chromium that a test drives, and a server that gives it files in ranges. No test lives here."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest
from websockets.sync.client import ClientConnection, connect

__all__ = ["Page", "find_chromium", "open_page", "serve_files"]

START_SECONDS = 60
ANSWER_SECONDS = 120

_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--window-size=800,600",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
]


def find_chromium() -> str:
    """Return the path of a Chromium; without one the test is skipped, or fails where it is required."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is not None:
        return found
    if os.environ.get("FANREEL_REQUIRE_CHROMIUM") == "1":
        pytest.fail("FANREEL_REQUIRE_CHROMIUM=1, but there is no chromium")
    pytest.skip("no chromium: apt-get install chromium")


class Page:
    """A page of the browser, spoken to by the DevTools protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)

    def evaluate(self, expression: str) -> object:
        """Return what a JavaScript expression comes to; a promise is waited for."""
        words = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        answer = self._ask("Runtime.evaluate", words)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def open(self, url: str) -> None:
        """Load `url`, and return when it is complete."""
        self._ask("Page.navigate", {"url": url})
        wanted = f"location.href === {json.dumps(url)} && document.readyState === 'complete'"
        deadline = time.monotonic() + START_SECONDS
        while not self.evaluate(wanted):
            assert time.monotonic() < deadline, f"{url} did not load in {START_SECONDS} s"
            time.sleep(0.05)

    def _ask(self, method: str, words: Mapping[str, object]) -> dict:
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": words}))
        while True:
            message = json.loads(self._connection.recv(timeout=ANSWER_SECONDS))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]


@contextlib.contextmanager
def open_page(chromium: str, folder: Path) -> Iterator[Page]:
    """Yield a page of a browser of its own, whose profile is in `folder`."""
    profile = folder / "profile"
    command = [chromium, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        port = _debugging_port(profile / "DevToolsActivePort", process, folder / "chromium.log")
        with build_opener(ProxyHandler({})).open(f"http://127.0.0.1:{port}/json/list", timeout=START_SECONDS) as answer:
            targets = json.load(answer)
        address = next(each["webSocketDebuggerUrl"] for each in targets if each["type"] == "page")
        with connect(address, max_size=None, proxy=None, open_timeout=START_SECONDS, ping_interval=None) as connection:
            yield Page(connection)
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _debugging_port(note: Path, process: subprocess.Popen, log: Path) -> int:
    """Return the port that the browser notes in its profile once it listens."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        # The file is there before its two lines are.
        if note.exists() and note.read_text().count("\n"):
            return int(note.read_text().splitlines()[0])
        assert process.poll() is None, f"chromium ended: {log.read_text(errors='replace')[-2000:]}"
        time.sleep(0.05)
    raise AssertionError(f"chromium did not listen within {START_SECONDS} s: {log.read_text(errors='replace')[-2000:]}")


@contextlib.contextmanager
def serve_files(files: Mapping[str, tuple[str, bytes]]) -> Iterator[str]:
    """Yield the address of a loopback server of `files` (name -> type and content) that answers ranges."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            kind, content = files.get(self.path.lstrip("/"), ("", b""))
            if not kind:
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            first, stop = _asked_range(self.headers.get("Range"), len(content))
            whole = self.headers.get("Range") is None
            self.send_response(200 if whole else 206)
            self.send_header("Content-Type", kind)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(stop - first))
            if not whole:
                self.send_header("Content-Range", f"bytes {first}-{stop - 1}/{len(content)}")
            self.end_headers()
            # A player leaves a range as soon as it has enough of it.
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content[first:stop])

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _asked_range(header: str | None, size: int) -> tuple[int, int]:
    """Return the half-open range of bytes that a `Range` header asks for. Source: RFC 9110, 14.1.2."""
    if header is None:
        return 0, size
    first, _, last = header.removeprefix("bytes=").partition("-")
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size
