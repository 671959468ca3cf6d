"""Photos from the web: bounded in size, time and redirects, from public hosts only, and nothing secret is shown."""

import contextlib
import ipaddress
import logging
import os
import socket
import threading
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pytest
from blake3 import blake3
from cryptography import x509
from PIL import Image
from support.web_certificate import certificate
from support.web_server import WebServer, drip, redirect, say, serve_web, versioned

from fanreel.errors import (
    FanreelError,
    InvalidJobError,
    NotAllowedError,
    PhotoNotFoundError,
    StorageAwayError,
    StorageError,
    UnreadablePhotoError,
)
from fanreel.intake.sources import fetch_stills
from fanreel.job.parse import parse_job
from fanreel.photos.photo import read_photo
from fanreel.plan.film import plan_to_json
from fanreel.plan.kinds import plan_films
from fanreel.remote import host_addresses
from fanreel.remote.host_addresses import is_public
from fanreel.remote.web_download import MOST_REDIRECTS
from fanreel.settings import Settings

SECRET = "marked-secret-9c1f"
SIGNED = f"X-Amz-Credential=key&X-Amz-Signature={SECRET}"


def picture(value: int = 100) -> bytes:
    data = BytesIO()
    Image.new("RGB", (8, 6), (value, 20, 30)).save(data, "PNG")
    return data.getvalue()


PHOTO = picture()


@pytest.fixture
def server():
    with serve_web() as opened:
        yield opened


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A host whose operator lets sources come from 127.0.0.1, on any port, and from no other private address."""
    return Settings(
        store=tmp_path / "store", private_hosts=("127.0.0.1",), download_seconds=60, max_download_bytes=1_000_000
    )


def stills(settings: Settings, *urls: str, **words: object):
    return fetch_stills(parse_job({"photos": list(urls), "output": "/out/film.mp4"} | words), settings=settings).stills


def refusal(kind: type[FanreelError], settings: Settings, *urls: str) -> str:
    with pytest.raises(kind) as caught:
        stills(settings, *urls)
    assert type(caught.value) is kind
    assert SECRET not in str(caught.value)
    return str(caught.value)


def with_bounds(settings: Settings, **words: object) -> Settings:
    return Settings(**{name: getattr(settings, name) for name in ("store", "private_hosts")} | words)


def name_server(monkeypatch: pytest.MonkeyPatch, names: dict[str, list[Sequence[str]]]) -> list[str]:
    """Have names resolve to addresses: the first list the first time, and so on; return the names that were asked for.

    An address that stands for itself is resolved as ever: no name server is asked for it.
    """
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def answer(host: str, port: int, *args: object, **more: object):
        if host not in names:
            return resolve(host, port, *args, **more)
        asked.append(host)
        addresses = names[host][min(asked.count(host), len(names[host])) - 1]
        return [found for address in addresses for found in resolve(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return asked


class TestDownload:
    def test_a_photo_is_known_by_its_bytes(self, server: WebServer, settings: Settings):
        server.answers["/a.png"] = say(200, PHOTO)
        (still,) = stills(settings, f"{server.url}/a.png")
        assert still.source.photo.digest == blake3(PHOTO).hexdigest()
        assert (still.source.photo.width_px, still.source.photo.height_px) == (8, 6)
        assert still.source.path == f"{server.url}/a.png"

    def test_slides_and_photos_come_in_their_order_each_read_once(self, server: WebServer, settings: Settings):
        for number in range(6):
            server.answers[f"/{number}.png"] = say(200, picture(number))
        order = [3, 1, 3, 5]
        found = stills(settings, *(f"{server.url}/{number}.png" for number in order))
        assert [still.source.photo.digest for still in found] == [blake3(picture(n)).hexdigest() for n in order]
        slides = [{"photo": f"{server.url}/{number}.png"} for number in order]
        found = fetch_stills(parse_job({"slides": slides, "output": "/film.mp4"}), settings=settings).stills
        assert [still.source.photo.digest for still in found] == [blake3(picture(n)).hexdigest() for n in order]
        assert sorted(server.paths) == sorted(2 * ["/1.png", "/3.png", "/5.png"])

    @pytest.mark.parametrize(
        ("header", "question", "version"),
        [
            ("ETag", "If-None-Match", '"v1"'),
            ("Last-Modified", "If-Modified-Since", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ],
    )
    def test_what_has_not_changed_is_not_sent_again(
        self, server: WebServer, settings: Settings, header: str, question: str, version: str
    ):
        url = f"{server.url}/a.png"
        server.answers["/a.png"] = versioned(PHOTO, header=header, question=question, version=version)
        first = stills(settings, url)
        assert question not in server.requests[-1][1]
        assert stills(settings, url) == first
        assert server.requests[-1][1][question] == version
        server.answers["/a.png"] = versioned(picture(7), header=header, question=question, version=version + "2")
        assert stills(settings, url)[0].source.photo.digest == blake3(picture(7)).hexdigest()

    def test_what_has_no_version_is_sent_again(self, server: WebServer, settings: Settings):
        for value in (1, 2):
            server.answers["/a.png"] = say(200, picture(value))
            (still,) = stills(settings, f"{server.url}/a.png")
            assert still.source.photo.digest == blake3(picture(value)).hexdigest()

    def test_another_signature_is_the_same_file_and_another_number_is_not(self, server: WebServer, settings: Settings):
        server.answers["/a.png"] = versioned(PHOTO, header="ETag", question="If-None-Match", version='"v"')
        for query in ("?n=1&X-Amz-Signature=1", "?n=1&X-Amz-Signature=2&x-amz-date=3", "?n=2&X-Amz-Signature=2"):
            stills(settings, f"{server.url}/a.png{query}")
        assert ["If-None-Match" in headers for _, headers in server.requests] == [False, True, False]

    def test_a_kept_file_that_was_damaged_is_fetched_again(self, server: WebServer, settings: Settings):
        url = f"{server.url}/a.png"
        server.answers["/a.png"] = versioned(PHOTO, header="ETag", question="If-None-Match", version='"v1"')
        first = stills(settings, url)
        (kept,) = (path for path in settings.store.rglob("*") if path.is_file() and path.read_bytes() == PHOTO)
        kept.write_bytes(PHOTO[:-1] + b"x")
        assert stills(settings, url) == first
        assert kept.read_bytes() == PHOTO

    def test_each_tenant_has_downloads_of_its_own(self, server: WebServer, settings: Settings):
        server.answers["/a.png"] = versioned(PHOTO, header="ETag", question="If-None-Match", version='"v1"')
        for tenant in ("acme", "other"):
            stills(with_bounds(settings, tenant=tenant), f"{server.url}/a.png")
            assert "If-None-Match" not in server.requests[-1][1]
        places = [path for path in settings.store.rglob("*") if path.is_file() and path.read_bytes() == PHOTO]
        assert sorted(path.relative_to(settings.store).parts[:2] for path in places) == [
            ("tenants", "acme"),
            ("tenants", "other"),
        ]

    def test_nothing_half_is_left(self, server: WebServer, settings: Settings):
        server.answers["/a.png"] = say(200, PHOTO[:20], headers={"Content-Length": str(len(PHOTO))})
        refusal(StorageAwayError, settings, f"{server.url}/a.png")
        assert [path for path in settings.store.rglob("*") if path.is_file() and path.name != ".lock"] == []

    def test_the_environment_s_proxy_is_not_asked(
        self, server: WebServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        server.answers["/a.png"] = say(200, PHOTO)
        assert stills(settings, f"{server.url}/a.png")


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (404, PhotoNotFoundError),
            (410, PhotoNotFoundError),
            (401, UnreadablePhotoError),
            (403, UnreadablePhotoError),
            (206, UnreadablePhotoError),
            (304, UnreadablePhotoError),
            (408, StorageAwayError),
            (429, StorageAwayError),
            (500, StorageAwayError),
            (503, StorageAwayError),
        ],
    )
    def test_by_status(self, server: WebServer, settings: Settings, status: int, kind: type[FanreelError]):
        server.answers["/a.png"] = say(status, PHOTO if status not in (204, 304) else b"")
        text = refusal(kind, settings, f"{server.url}/a.png?{SIGNED}")
        assert text.startswith(f"photos: {server.url}/a.png: ")
        assert str(status) in text

    def test_what_is_no_photo_is_named_by_its_address(self, server: WebServer, settings: Settings):
        server.answers["/a.png"] = say(200, b"<html>sign in</html>")
        text = refusal(UnreadablePhotoError, settings, f"{server.url}/a.png?{SIGNED}")
        assert text == f"photos: {server.url}/a.png: not a picture that can be read"

    def test_what_is_too_large_by_its_own_word_is_not_read(self, server: WebServer, settings: Settings):
        server.answers["/a.png"] = say(200, PHOTO, headers={"Content-Length": "1000001"})
        text = refusal(UnreadablePhotoError, settings, f"{server.url}/a.png")
        assert "over 1 MB; FANREEL_MAX_DOWNLOAD_MEGABYTES raises the bound" in text

    @pytest.mark.parametrize("is_chunked", [False, True])
    def test_what_turns_out_too_large_is_cut_off(self, server: WebServer, settings: Settings, is_chunked: bool):
        sent = []

        def pour(handler):
            handler.protocol_version = "HTTP/1.1" if is_chunked else "HTTP/1.0"
            handler.send_response(200)
            handler.send_header("Transfer-Encoding" if is_chunked else "X-Nothing", "chunked")
            handler.end_headers()
            block = b"x" * 100_000
            for _ in range(1000):
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(block), block) if is_chunked else block)
                sent.append(len(block))

        server.answers["/a.png"] = pour
        refusal(UnreadablePhotoError, settings, f"{server.url}/a.png")
        server.close()
        assert 1_000_000 < sum(sent) < 100_000_000

    def test_a_file_as_large_as_allowed_is_read(self, server: WebServer, settings: Settings):
        server.answers["/a.png"] = say(200, PHOTO)
        assert stills(with_bounds(settings, max_download_bytes=len(PHOTO)), f"{server.url}/a.png")
        refusal(UnreadablePhotoError, with_bounds(settings, max_download_bytes=len(PHOTO) - 1), f"{server.url}/a.png")

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + 4000 * b"x", id="body"),
            pytest.param(b"HTTP/1.0 200 OK\r\n\r\n" + 4000 * b"x", id="body without end"),
            pytest.param(b"HTTP/1.1 200 OK\r\n" + 100 * b"X-Header: and on and on\r\n", id="headers"),
            pytest.param(b"HTTP/1.1 200 " + 4000 * b"o", id="status"),
            pytest.param(b"", id="nothing"),
        ],
    )
    def test_what_drips_is_cut_off(self, server: WebServer, settings: Settings, data: bytes):
        """Each byte comes well within any time that is given to one read."""
        server.answers["/a.png"] = drip(server, data)
        started_at = time.monotonic()
        text = refusal(StorageAwayError, with_bounds(settings, download_seconds=0.7), f"{server.url}/a.png?{SIGNED}")
        assert "not downloaded after 0.7 s; FANREEL_DOWNLOAD_SECONDS allows more time" in text
        assert time.monotonic() - started_at < 25, "it would have dripped for longer"

    def test_a_server_that_is_down_is_away(self, server: WebServer, settings: Settings):
        server.close()
        assert "the server does not answer" in refusal(StorageAwayError, settings, f"{server.url}/a.png?{SIGNED}")

    @pytest.mark.parametrize("data", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 two hundred\r\n\r\n", b"\0" * 70_000])
    def test_what_is_no_answer_is_away(self, server: WebServer, settings: Settings, data: bytes):
        server.answers["/a.png"] = lambda handler: handler.wfile.write(data)
        refusal(StorageAwayError, settings, f"{server.url}/a.png")

    def test_one_away_ends_the_job_although_bad_photos_are_skipped(self, server: WebServer, settings: Settings):
        server.answers |= {"/a.png": say(200, PHOTO), "/b.png": say(503)}
        urls = [f"{server.url}/{name}" for name in ("a.png", "b.png", "gone.png")]
        with pytest.raises(PhotoNotFoundError):
            stills(settings, *urls, on_bad_photo="skip")
        server.answers.pop("/b.png")
        job = parse_job({"photos": urls, "output": "/film.mp4", "on_bad_photo": "skip"})
        fetched = fetch_stills(job, settings=settings)
        assert len(fetched.stills) == 1
        assert len(fetched.left_out) == 2

    @pytest.mark.parametrize(
        "name", ["ftp://host/a.png", "file:///etc/passwd", "data://x", "gopher://127.0.0.1/a.png", "concat://a"]
    )
    def test_other_schemes(self, settings: Settings, name: str):
        with pytest.raises(InvalidJobError, match=r"files, s3:// and http\(s\):// can be read"):
            stills(settings, name)

    @pytest.mark.parametrize(
        "url",
        [
            "http://",
            "http:///a.png",
            "http://127.0.0.1:99999/a.png",
            "http://127.0.0.1:port/a.png",
            "http://[::1/a.png",
            "http://127.0.0.1 /a.png",
            "http://127.0.0.1/a\nb.png",
            "http://a.test\\@127.0.0.1/a.png",
            f"http://user:{SECRET}@127.0.0.1/a.png",
            f"http://{SECRET}@127.0.0.1/a.png",
        ],
    )
    def test_what_is_no_address(self, settings: Settings, url: str):
        refusal(InvalidJobError, settings, url)


class TestRedirects:
    def chain(self, server: WebServer, count: int) -> str:
        for number in range(count):
            server.answers[f"/{number}"] = redirect(f"/{number + 1}")
        server.answers[f"/{count}"] = say(200, PHOTO)
        return f"{server.url}/0"

    def test_as_many_as_allowed(self, server: WebServer, settings: Settings):
        assert stills(settings, self.chain(server, MOST_REDIRECTS))
        assert len(server.paths) == 1 + MOST_REDIRECTS

    def test_one_more(self, server: WebServer, settings: Settings):
        refusal(NotAllowedError, settings, self.chain(server, MOST_REDIRECTS + 1))
        assert len(server.paths) == 1 + MOST_REDIRECTS

    def test_in_a_circle(self, server: WebServer, settings: Settings):
        server.answers["/a"] = redirect("/a")
        refusal(NotAllowedError, settings, f"{server.url}/a?{SIGNED}")

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_every_kind(self, server: WebServer, settings: Settings, status: int):
        server.answers |= {"/a": redirect(f"{server.url}/b", status=status), "/b": say(200, PHOTO)}
        (still,) = stills(settings, f"{server.url}/a")
        assert still.source.path == f"{server.url}/a"

    @pytest.mark.parametrize(
        ("target", "kind"),
        [
            ("http://localhost:{port}/secret.png", NotAllowedError),
            ("http://127.0.0.2:{port}/secret.png", NotAllowedError),
            ("http://127.1:{port}/secret.png", NotAllowedError),
            ("http://[::ffff:127.0.0.1]:{port}/secret.png", NotAllowedError),
            ("//localhost:{port}/secret.png", NotAllowedError),
            ("http://169.254.169.254/latest/meta-data/", NotAllowedError),
            ("file:///etc/passwd", NotAllowedError),
            ("ftp://127.0.0.1/a.png", NotAllowedError),
            ("s3://bucket/a.png", NotAllowedError),
            (f"http://user:{SECRET}@127.0.0.1:{{port}}/secret.png", InvalidJobError),
            ("", UnreadablePhotoError),
        ],
    )
    def test_to_where_no_source_may_be(
        self, server: WebServer, settings: Settings, target: str, kind: type[FanreelError]
    ):
        server.answers |= {"/a": redirect(target.format(port=server.port)), "/secret.png": say(200, PHOTO)}
        refusal(kind, settings, f"{server.url}/a?{SIGNED}")
        assert [path.partition("?")[0] for path in server.paths] == ["/a"]

    def test_to_another_host_that_is_allowed(self, server: WebServer, settings: Settings):
        with serve_web() as other:
            server.answers["/a"] = redirect(f"{other.url}/b")
            other.answers["/b"] = say(200, PHOTO)
            one = with_bounds(settings, private_hosts=(f"127.0.0.1:{server.port}",))
            assert f"127.0.0.1:{other.port}" not in one.private_hosts
            refusal(NotAllowedError, one, f"{server.url}/a")
            assert other.paths == []
            assert stills(settings, f"{server.url}/a")
            assert other.paths == ["/b"]


class TestAddresses:
    @pytest.mark.parametrize(
        "address",
        [
            *("127.0.0.1", "127.255.0.1", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255"),
            *("192.168.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.2.1"),
            *("198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1"),
            *("255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254"),
            *("ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:8.8.8.8", "::127.0.0.1"),
            *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:808:808::"),
            *("2001::1", "2001:db8::1", "100::1", "not an address", ""),
        ],
    )
    def test_private_ones(self, address: str):
        assert not is_public(address)

    @pytest.mark.parametrize(
        "address",
        [
            *("8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.32.0.1", "169.253.0.1"),
            *("2606:4700:4700::1111", "2a00:1450:4001::1", "64:ff9b::808:808"),
        ],
    )
    def test_public_ones(self, address: str):
        assert is_public(address)

    @pytest.mark.parametrize(
        "host",
        [
            *("127.0.0.1", "localhost", "LOCALHOST", "localhost.", "127.1", "2130706433", "0x7f000001", "0177.0.0.1"),
            *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "0", "169.254.169.254", "100.64.0.1"),
            *("10.1.2.3", "[fd00::1]", "[fe80::1]", "①②⑦.⓪.⓪.①"),
        ],
    )
    def test_no_spelling_reaches_a_private_one(self, server: WebServer, settings: Settings, host: str):
        server.answers["/a.png"] = say(200, PHOTO)
        strict = with_bounds(settings, private_hosts=())
        url = f"http://{host}:{server.port}/a.png?{SIGNED}"
        with pytest.raises((NotAllowedError, PhotoNotFoundError, InvalidJobError)) as caught:
            stills(strict, url)
        assert SECRET not in str(caught.value)
        assert server.requests == []

    def test_the_message_says_how_it_may_be_allowed(self, server: WebServer, settings: Settings):
        text = refusal(NotAllowedError, with_bounds(settings, private_hosts=()), f"{server.url}/a.png")
        assert "127.0.0.1, which is not public" in text
        assert "FANREEL_PRIVATE_HOSTS" in text

    @pytest.mark.parametrize("allowed", ["*", "localhost", "localhost:{port}"])
    def test_a_host_that_is_allowed_by_name(self, server: WebServer, settings: Settings, allowed: str):
        server.answers["/a.png"] = say(200, PHOTO)
        open_to = with_bounds(settings, private_hosts=(allowed.format(port=server.port),))
        assert stills(open_to, f"http://LocalHost:{server.port}/a.png")

    @pytest.mark.parametrize("allowed", ["localhost:1", "host", "ocalhost", "127.0.0.1.nip.test"])
    def test_another_host_that_is_allowed(self, server: WebServer, settings: Settings, allowed: str):
        refusal(
            NotAllowedError, with_bounds(settings, private_hosts=(allowed,)), f"http://localhost:{server.port}/a.png"
        )
        assert server.requests == []

    def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ):
        """The name shows another address to whoever asks a second time."""
        with serve_web(address="127.0.0.2") as shown, serve_web(port=shown.port) as hidden:
            shown.answers["/a.png"], hidden.answers["/a.png"] = say(200, PHOTO), say(200, picture(9))
            asked = name_server(monkeypatch, {"two.test": [["127.0.0.2"], ["127.0.0.1"]]})
            (still,) = stills(with_bounds(settings, private_hosts=("two.test",)), f"http://two.test:{shown.port}/a.png")
            assert still.source.photo.digest == blake3(PHOTO).hexdigest()
            assert asked == ["two.test"]
            assert hidden.requests == []
            assert shown.requests[0][1]["Host"] == f"two.test:{shown.port}"

    @pytest.mark.parametrize("addresses", [("8.8.8.8", "127.0.0.1"), ("127.0.0.1", "8.8.8.8"), ("::1", "8.8.8.8")])
    def test_a_name_with_one_private_address_is_refused_whole(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...]
    ):
        name_server(monkeypatch, {"mixed.test": [addresses]})
        monkeypatch.setattr(host_addresses.socket.socket, "connect", lambda *_: pytest.fail("it was connected to"))
        refusal(NotAllowedError, settings, "http://mixed.test/a.png")

    @pytest.mark.parametrize(
        ("number", "kind"), [(socket.EAI_AGAIN, StorageAwayError), (socket.EAI_NONAME, PhotoNotFoundError)]
    )
    def test_a_name_that_is_not_found(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[FanreelError]
    ):
        def fail(*args: object, **words: object):
            raise socket.gaierror(number, "no")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        assert "gone.test" in refusal(kind, settings, f"http://gone.test/a.png?{SIGNED}")

    def test_a_host_without_an_answer_on_its_first_address(
        self, server: WebServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ):
        server.answers["/a.png"] = say(200, PHOTO)
        name_server(monkeypatch, {"two.test": [["127.0.0.3", "127.0.0.1"]]})
        assert stills(with_bounds(settings, private_hosts=("two.test",)), f"http://two.test:{server.port}/a.png")


class TestRoots:
    def test_a_public_address_needs_no_root(self, server: WebServer, settings: Settings):
        server.answers["/a.png"] = say(200, PHOTO)
        assert stills(with_bounds(settings, roots=("/srv/photos",)), f"{server.url}/a.png")

    def test_a_root_on_the_web_bounds_redirects_too(self, server: WebServer, settings: Settings):
        bounded = with_bounds(settings, roots=(f"{server.url}/in",))
        server.answers |= {"/in/a.png": say(200, PHOTO), "/in/b.png": redirect("/out.png"), "/out.png": say(200, PHOTO)}
        assert stills(bounded, f"{server.url}/in/a.png")
        refusal(NotAllowedError, bounded, f"{server.url}/in/b.png")
        refusal(NotAllowedError, bounded, f"{server.url}/out.png")
        assert "/out.png" not in server.paths


class TestTls:
    LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))

    @pytest.fixture
    def secured(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        path = certificate(tmp_path, self.LOOPBACK)
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        with serve_web(certificate=path) as opened:
            yield opened

    def test_a_trusted_server(self, secured: WebServer, settings: Settings):
        secured.answers["/a.png"] = say(200, PHOTO)
        assert stills(settings, f"{secured.url}/a.png")[0].source.photo.digest == blake3(PHOTO).hexdigest()

    def test_a_redirect_that_gives_up_safety(self, secured: WebServer, server: WebServer, settings: Settings):
        secured.answers["/a"], server.answers["/b"] = redirect(f"{server.url}/b"), say(200, PHOTO)
        assert "from https to http" in refusal(NotAllowedError, settings, f"{secured.url}/a?{SIGNED}")
        assert server.requests == []

    def test_a_redirect_that_gains_it(self, secured: WebServer, server: WebServer, settings: Settings):
        server.answers["/a"], secured.answers["/b"] = redirect(f"{secured.url}/b"), say(200, PHOTO)
        assert stills(settings, f"{server.url}/a")

    def test_a_server_that_nobody_vouches_for(
        self, secured: WebServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
        assert "certificate is not valid" in refusal(StorageError, settings, f"{secured.url}/a.png?{SIGNED}")
        assert secured.requests == []

    def test_a_certificate_of_another_host(self, secured: WebServer, settings: Settings):
        other = with_bounds(settings, private_hosts=("localhost",))
        refusal(StorageError, other, f"https://localhost:{secured.port}/a.png")
        assert secured.requests == []

    def test_a_certificate_is_of_the_name_and_not_of_the_address(
        self, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        path = certificate(tmp_path, x509.DNSName("two.test"))
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        name_server(monkeypatch, {name: [["127.0.0.1"]] for name in ("two.test", "other.test")})
        known = with_bounds(settings, private_hosts=("*",))
        with serve_web(certificate=path) as named:
            named.answers["/a.png"] = say(200, PHOTO)
            assert stills(known, f"https://two.test:{named.port}/a.png")
            for host in ("other.test", "127.0.0.1"):
                assert "certificate is not valid" in refusal(StorageError, known, f"https://{host}:{named.port}/a.png")
            assert len(named.requests) == 1

    def test_a_handshake_that_never_ends(self, settings: Settings):
        with socket.create_server(("127.0.0.1", 0)) as mute:
            url = f"https://127.0.0.1:{mute.getsockname()[1]}/a.png"
            refusal(StorageAwayError, with_bounds(settings, download_seconds=0.5), url)

    def test_a_handshake_that_drips_is_cut_off(self, settings: Settings):
        """Each byte of it comes well within any time that is given to one read."""
        over = threading.Event()

        def drip_handshake(listening: socket.socket) -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"\x16\x03\x03\x40\x00")  # a record of the handshake, 16 KiB long
                while not over.wait(0.02):
                    connection.sendall(b"\0")

        with socket.create_server(("127.0.0.1", 0)) as listening:
            threading.Thread(target=drip_handshake, args=(listening,), daemon=True).start()
            url = f"https://127.0.0.1:{listening.getsockname()[1]}/a.png"
            try:
                text = refusal(StorageAwayError, with_bounds(settings, download_seconds=0.7), url)
            finally:
                over.set()
        assert "not downloaded after 0.7 s" in text


def test_what_signs_an_address_is_written_nowhere(
    server: WebServer, settings: Settings, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    server.answers["/a.png"] = versioned(PHOTO, header="ETag", question="If-None-Match", version='"v1"')
    job = parse_job({"photos": [f"{server.url}/a.png?{SIGNED}"], "output": "/out/film.mp4"})
    found = fetch_stills(job, settings=settings)
    (plan,) = plan_films(job, found, output="/out/film.mp4")
    written = [path for path in settings.store.rglob("*") if path.is_file()]
    assert len(written) > 1
    assert not [path for path in written if SECRET.encode() in path.read_bytes() or SECRET in path.name]
    assert SECRET.encode() not in plan_to_json(plan)
    assert SECRET not in caplog.text
    assert SECRET in server.paths[0]
    kept = next(path for path in written if path.read_bytes() == PHOTO)
    assert read_photo(kept, max_megapixels=1) == found.stills[0].source.photo
