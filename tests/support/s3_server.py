"""A real S3 server (`rclone serve s3`) with a proxy of our own in front, through which it can fail.

    with serve_s3(tmp_path) as server:
        server.use(monkeypatch)                       # or `os.environ | server.env` for another process
        server.fail(Fault(status=503, times=2, method="PUT"))
        server.pause(); server.resume(); server.kill(); server.restart()

All of it on the loopback interface. What the proxy saw stands in `server.requests`. Before each request but uploads
the proxy has the server forget its view of the folders: files that a test writes there itself are seen at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from botocore.client import BaseClient
from support.processes import wait_until

from fanreel.remote import s3
from fanreel.remote.s3 import S3

RCLONE = Path(sys.executable).with_name("rclone")
ACCESS_KEY = "fanreel-tests-access"
SECRET_KEY = "fanreel-tests-marked-secret"
BUCKET = "films"

HOP_HEADERS = frozenset({"connection", "keep-alive", "transfer-encoding", "expect"})
PR_SET_PDEATHSIG = 1
PIECE_BYTES = 1 << 16


@dataclass
class Fault:
    """What goes wrong with requests.

    Attributes:
        status: Answer so instead of asking the server.
        cut: Break the connection in the middle: of what is sent if something is sent, else of the answer.
        delay_seconds: Wait so long first.
        times: How many requests it meets; -1 for all.
        every: Only each so many-th of those that fit.
        method: Only this one, such as PUT; any if empty.
        part: Only where this is in the path or the query.
        code: The error's code in the answer; one that fits the status if empty.
    """

    status: int = 0
    cut: bool = False
    delay_seconds: float = 0.0
    times: int = 1
    every: int = 1
    method: str = ""
    part: str = ""
    code: str = ""
    seen: int = field(default=0, init=False)
    met: int = field(default=0, init=False)

    def meets(self, method: str, path: str) -> bool:
        """Return whether it meets this request, and count it."""
        if self.times in (0, self.met) or self.method not in ("", method) or self.part not in path:
            return False
        self.seen += 1
        if self.seen % self.every:
            return False
        self.met += 1
        return True


class S3Server:
    """The server and its proxy.

    Attributes:
        folder: Where the server keeps its buckets, as folders.
        url: The endpoint: the proxy's address.
        requests: Method and path, with the query, of all that was asked, in order.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "buckets" / BUCKET).mkdir(parents=True, exist_ok=True)
        self.requests: list[str] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._port = self._control_port = 0
        self._client: S3 | None = None
        self._proxy = _Proxy(self)
        self.url = f"http://127.0.0.1:{self._proxy.server_port}"
        threading.Thread(target=self._proxy.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def env(self) -> dict[str, str]:
        """What a process needs in its environment."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    @property
    def bucket(self) -> Path:
        """The folder of the bucket `films`."""
        return self.folder / "buckets" / BUCKET

    @property
    def pid(self) -> int:
        """The server's process; 0 if it is down."""
        return self._process.pid if self._process else 0

    def use(self, monkeypatch: pytest.MonkeyPatch, *, patiently: bool = False) -> None:
        """Lead this process's clients here.

        Args:
            monkeypatch: Of the test.
            patiently: Wait a minute for each answer: on a busy machine, a request that is given up after the five
                seconds that users wait, and sent again, would be counted twice.
        """
        for name, value in self.env.items():
            monkeypatch.setenv(name, value)
        # One for all tests of a server: to make a client takes half a second.
        self._client = self._client or (_PatientClient() if patiently else S3())
        monkeypatch.setattr(s3, "_OF_PROCESS", self._client)

    def fail(self, *faults: Fault) -> None:
        """Have requests go wrong from now on, in addition."""
        with self._lock:
            self._faults += faults

    def heal(self) -> None:
        """End all faults."""
        with self._lock:
            self._faults.clear()

    def fault_of(self, method: str, path: str) -> Fault | None:
        """Note a request; return what goes wrong with it."""
        with self._lock:
            self.requests.append(f"{method} {path}")
            return next((fault for fault in self._faults if fault.meets(method, path)), None)

    def start(self) -> None:
        """Start the server."""
        self._port, self._control_port = _free_port(), _free_port()
        command = [str(RCLONE), "serve", "s3", "--addr", f"127.0.0.1:{self._port}", "--config", ""]
        command += ["--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"]
        command += ["--rc", "--rc-addr", f"127.0.0.1:{self._control_port}", "--rc-no-auth"]
        command += ["--dir-cache-time", "24h", str(self.folder / "buckets")]
        with (self.folder / "s3.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=_die_with_parent)
        wait_until(self._is_up, seconds=60, what="the S3 server is up")

    def pause(self) -> None:
        """Freeze it: connections are taken and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once: whoever asks is refused."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None

    def restart(self) -> None:
        """Start it again, with what it kept."""
        self.kill()
        self.start()

    def close(self) -> None:
        """End the server and the proxy."""
        self.kill()
        self._proxy.shutdown()
        self._proxy.server_close()

    def open_upstream(self) -> http.client.HTTPConnection:
        """Return a new connection to the server itself."""
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)

    def look_anew(self) -> None:
        """Have the server forget what it knows of its folders."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._control_port, timeout=120)) as control:
            control.request("POST", "/vfs/forget")
            answer = control.getresponse()
            assert answer.status == 200, answer.read()

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "s3.log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
            self.look_anew()
            return True
        return False


@contextlib.contextmanager
def serve_s3(folder: Path) -> Iterator[S3Server]:
    """Run a server that keeps its buckets, of which `films` is there, below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    server = S3Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.close()


class _PatientClient(S3):
    """A client that waits long for every answer."""

    def _client(self, seconds: tuple[float, float] = s3.PATIENT_SECONDS) -> BaseClient:
        del seconds
        return super()._client(s3.PATIENT_SECONDS)


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, server: S3Server) -> None:
        self.of = server
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that leave are what is tried here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Proxy

    def do_request(self) -> None:
        fault = self.server.of.fault_of(self.command, self.path)
        if fault and fault.delay_seconds:
            time.sleep(fault.delay_seconds)
        length = int(self.headers.get("Content-Length") or 0)
        if fault and fault.status:
            self.rfile.read(length)
            self._answer_alone(fault.status, fault.code)
            return
        upstream = self.server.of.open_upstream()
        with contextlib.closing(upstream):
            try:
                if self.command not in ("PUT", "POST"):
                    self.server.of.look_anew()
                self._pass_request(upstream, length, cut=bool(fault and fault.cut and length))
                self._pass_answer(upstream.getresponse(), cut=bool(fault and fault.cut and not length))
            except (OSError, http.client.HTTPException):
                self._break()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_request  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing; see `S3Server.requests`."""

    def _pass_request(self, upstream: http.client.HTTPConnection, length: int, *, cut: bool) -> None:
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in HOP_HEADERS:
                upstream.putheader(name, value)
        upstream.endheaders()
        left = length // 2 if cut else length
        while left:
            piece = self.rfile.read(min(PIECE_BYTES, left))
            if not piece:
                raise ConnectionResetError
            upstream.send(piece)
            left -= len(piece)
        if cut:
            raise ConnectionResetError

    def _pass_answer(self, answer: http.client.HTTPResponse, *, cut: bool) -> None:
        data = answer.read()
        self.send_response(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_HEADERS | {"content-length", "date", "server"}:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        if length is not None:
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            raise ConnectionResetError

    def _answer_alone(self, status: int, code: str) -> None:
        code = code or {500: "InternalError", 503: "SlowDown", 403: "AccessDenied"}.get(status, "Fault")
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>on purpose</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _break(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
