"""The S3 client: against a real server, through a proxy that makes it fail."""

import os
import re
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.processes import in_fork
from support.s3_server import ACCESS_KEY, SECRET_KEY, Fault, S3Server, serve_s3

from fanreel.errors import InvalidJobError, StorageAwayError, StorageError
from fanreel.remote.s3 import MULTIPART_BYTES, S3, TRIES, S3Uri, parse_s3_uri, s3

BIG_BYTES = 2 * MULTIPART_BYTES + 1_000_000
"""Three parts."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serve_s3(tmp_path_factory.mktemp("s3")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def healthy(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server.use(monkeypatch)
    server.heal()
    yield
    server.heal()


@pytest.fixture
def folder(tmp_path: Path) -> S3Uri:
    """A folder that no other test uses."""
    return parse_s3_uri(f"s3://films/{tmp_path.name}")


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "film.mp4"
    path.write_bytes(os.urandom(BIG_BYTES))
    return path


def asked(server: S3Server, uri: S3Uri) -> list[str]:
    """What was asked of an object, with the query's names only."""
    found = [line for line in server.requests if f"/{uri.bucket}/{uri.key}" in line]
    return [re.sub(r"=[^&]*", "", line.replace(f"/{uri.bucket}/{uri.key}", "")) for line in found]


class TestPlaces:
    @pytest.mark.parametrize(
        ("url", "bucket", "key"),
        [
            ("s3://films", "films", ""),
            ("s3://films/", "films", ""),
            ("s3://films/a", "films", "a"),
            ("s3://films/a/b c/ä.mp4", "films", "a/b c/ä.mp4"),
            ("s3://my.bucket-1_x/a//b/", "my.bucket-1_x", "a//b"),
        ],
    )
    def test_a_url_names_a_bucket_and_a_key(self, url: str, bucket: str, key: str):
        assert parse_s3_uri(url) == S3Uri(bucket, key)

    @pytest.mark.parametrize(
        "url",
        [
            *("s3://", "s3:///a", "films/a", "https://films/a", "S3://films/a", "s3://fi lms/a", "s3://f/a"),
            *("s3://films/../other", "s3://films/a/./b", "s3://films/a\nb", "s3://films/\x7f"),
            *(f"s3://films/{'a' * 1025}", "s3://films/\udce4", "s3://-films/a"),
        ],
    )
    def test_what_is_none_is_refused(self, url: str):
        with pytest.raises(InvalidJobError, match=r"is not an S3 URI|is not allowed"):
            parse_s3_uri(url)

    @pytest.mark.parametrize(
        "url", ["s3://id:secret@films/a", "s3://id:sec/secret@films/a", "https://id:secret@host/a"]
    )
    def test_a_secret_in_a_url_is_refused_and_not_said(self, url: str):
        with pytest.raises(InvalidJobError) as refused:
            parse_s3_uri(url)
        assert "sec" not in str(refused.value).replace("credentials", "")

    def test_places_below_and_their_text(self):
        uri = S3Uri("films", "") / "a" / "b.mp4"
        assert (str(uri), uri.name) == ("s3://films/a/b.mp4", "b.mp4")
        assert parse_s3_uri(str(uri)) == uri


class TestObjects:
    def test_what_was_written_is_read(self, folder: S3Uri):
        uri = folder / "a b/ü.txt"
        assert s3().head(uri) is None
        assert s3().read(uri) is None
        s3().write(b"hello", uri, content_type="text/plain")
        found = s3().head(uri)
        assert found is not None
        assert (found.uri, found.size_bytes) == (uri, 5)
        assert abs(found.modified_at - s3().now(folder)) < timedelta(minutes=5)
        assert s3().read(uri) == b"hello"
        s3().write(b"", uri, content_type="text/plain")
        assert s3().read(uri) == b"", "an empty object is one"

    def test_a_large_file_goes_up_in_parts_and_comes_back(
        self, server: S3Server, folder: S3Uri, big: Path, tmp_path: Path
    ):
        uri = folder / "film.mp4"
        s3().upload(big, uri, content_type="video/mp4", metadata={"Plan": "abc"})
        parts = [line for line in asked(server, uri) if line == "PUT ?uploadId&partNumber"]
        assert len(parts) == 3
        found = s3().head(uri)
        assert found is not None
        assert (found.size_bytes, found.metadata["plan"]) == (BIG_BYTES, "abc")
        assert s3().download(uri, tmp_path / "back.mp4")
        assert (tmp_path / "back.mp4").read_bytes() == big.read_bytes()

    def test_a_small_file_goes_up_in_one_request(self, server: S3Server, folder: S3Uri, tmp_path: Path):
        (tmp_path / "small").write_bytes(b"x" * 1000)
        s3().upload(tmp_path / "small", folder / "small", content_type="video/mp4")
        assert asked(server, folder / "small") == ["PUT "]

    def test_a_film_is_served_under_its_content_type_to_who_has_the_signed_url(self, folder: S3Uri, tmp_path: Path):
        (tmp_path / "film").write_bytes(b"x" * 1000)
        s3().upload(tmp_path / "film", folder / "film.mp4", content_type="video/mp4")
        url = s3().sign(folder / "film.mp4", seconds=60)
        assert SECRET_KEY not in url
        with urllib.request.urlopen(url) as answer:
            assert (answer.headers["Content-Type"], answer.read()) == ("video/mp4", b"x" * 1000)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(url.replace("film.mp4", "other.mp4"))

    def test_what_is_not_there_is_not_made(self, folder: S3Uri, tmp_path: Path):
        assert not s3().download(folder / "nothing", tmp_path / "file")
        assert list(tmp_path.iterdir()) == []

    def test_what_is_too_large_is_refused_before_it_is_read(self, folder: S3Uri, tmp_path: Path):
        s3().write(b"x" * 1000, folder / "a", content_type="text/plain")
        with pytest.raises(StorageError, match="1000 bytes are too many; 999 are allowed"):
            s3().download(folder / "a", tmp_path / "a", largest_bytes=999)
        assert list(tmp_path.iterdir()) == []
        assert s3().download(folder / "a", tmp_path / "a", largest_bytes=1000)

    def test_a_file_that_cannot_be_written_is_a_storage_error(self, folder: S3Uri, tmp_path: Path):
        s3().write(b"x", folder / "a", content_type="text/plain")
        with pytest.raises(StorageError, match="No such file"):
            s3().download(folder / "a", tmp_path / "no" / "a")
        with pytest.raises(StorageError, match="No such file"):
            s3().upload(tmp_path / "nothing", folder / "b", content_type="text/plain")

    def test_a_list_has_all_below_a_folder_and_nothing_beside_it(self, folder: S3Uri):
        names = {f"in/{number:02}/x" for number in range(12)}
        for name in (*names, "inside", "other/y"):
            s3().write(b"abc", folder / name, content_type="text/plain")
        found = list(s3().list(folder / "in"))
        assert {str(item.uri).removeprefix(f"{folder}/") for item in found} == names
        assert {item.size_bytes for item in found} == {3}
        assert list(s3().list(folder / "nothing")) == []

    def test_what_is_deleted_is_gone_and_what_never_was_is_no_error(self, folder: S3Uri):
        uris = [folder / f"{number}" for number in range(20)]
        for uri in uris[:10]:
            s3().write(b"abc", uri, content_type="text/plain")
        s3().delete(*uris)
        assert list(s3().list(folder)) == []
        s3().delete()


class TestFaults:
    @pytest.mark.parametrize("status", [500, 503])
    def test_a_server_that_cannot_now_and_then_is_asked_again(self, server: S3Server, folder: S3Uri, status: int):
        s3().write(b"abc", folder / "a", content_type="text/plain")
        server.fail(Fault(status=status, times=TRIES - 1))
        assert s3().read(folder / "a") == b"abc"

    def test_a_server_that_cannot_is_given_up_and_worth_another_try_later(self, server: S3Server, folder: S3Uri):
        server.fail(Fault(status=500, times=-1))
        for ask in (s3().head, s3().read, s3().delete, lambda uri: s3().write(b"", uri, content_type="a/b")):
            before = len(server.requests)
            with pytest.raises(StorageAwayError, match="cannot answer for now"):
                ask(folder / "a")
            assert len(server.requests) - before == TRIES
        assert StorageAwayError.transient

    def test_a_server_that_is_away_is_told_so(self, server: S3Server, folder: S3Uri):
        server.kill()
        try:
            with pytest.raises(StorageAwayError, match="does not answer"):
                s3().head(folder / "a")
        finally:
            server.restart()
        assert s3().head(folder / "a") is None

    def test_nobody_at_the_address_is_away_too(self, folder: S3Uri, monkeypatch: pytest.MonkeyPatch):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{unused.getsockname()[1]}")
            with pytest.raises(StorageAwayError, match="does not answer"):
                S3().head(folder / "a")

    def test_a_download_that_breaks_goes_on_where_it_broke(
        self, server: S3Server, folder: S3Uri, big: Path, tmp_path: Path
    ):
        s3().upload(big, folder / "film", content_type="video/mp4")
        server.fail(Fault(cut=True, times=TRIES - 1, method="GET", part="film"))
        assert s3().download(folder / "film", tmp_path / "film")
        assert (tmp_path / "film").read_bytes() == big.read_bytes()
        assert asked(server, folder / "film").count("GET ") == TRIES

    def test_a_download_that_breaks_for_good_leaves_no_file(self, server: S3Server, folder: S3Uri, tmp_path: Path):
        s3().write(bytes(100_000), folder / "film", content_type="video/mp4")
        server.fail(Fault(cut=True, times=-1, method="GET"))
        (tmp_path / "film").write_bytes(b"old")
        with pytest.raises(StorageAwayError):
            s3().download(folder / "film", tmp_path / "film")
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("film", b"old")]

    def test_an_upload_of_which_a_part_is_cut_goes_on(self, server: S3Server, folder: S3Uri, big: Path):
        server.fail(Fault(cut=True, method="PUT", part="partNumber=2"))
        s3().upload(big, folder / "film", content_type="video/mp4")
        assert b"".join(s3().pieces(folder / "film") or ()) == big.read_bytes()

    @pytest.mark.parametrize("what", ["a part", "the end"])
    def test_an_upload_that_fails_leaves_nothing_visible_and_no_part(
        self, server: S3Server, folder: S3Uri, big: Path, what: str
    ):
        fault = Fault(cut=True, method="PUT") if what == "a part" else Fault(status=500, method="POST", part="uploadId")
        fault.times = -1
        server.fail(fault)
        with pytest.raises(StorageAwayError):
            s3().upload(big, folder / "film", content_type="video/mp4")
        server.heal()
        assert asked(server, folder / "film")[-1] == "DELETE ?uploadId"
        assert s3().head(folder / "film") is None
        assert list(s3().list(folder)) == []
        assert s3().abort_uploads(folder, before=datetime.now(UTC) + timedelta(days=1)) == 0

    def test_parts_that_nobody_could_remove_are_removed_later(self, server: S3Server, folder: S3Uri, big: Path):
        """As after a kill: who was to end the upload is gone."""
        server.fail(Fault(cut=True, times=-1, method="PUT"), Fault(status=500, times=-1, method="DELETE"))
        with pytest.raises(StorageAwayError):
            s3().upload(big, folder / "film", content_type="video/mp4")
        server.heal()
        now = s3().now(folder)
        assert s3().abort_uploads(folder / "film", before=now - timedelta(hours=1)) == 0, "it may be going on"
        assert s3().abort_uploads(folder, before=now + timedelta(hours=1)) == 1
        assert s3().abort_uploads(folder, before=now + timedelta(hours=1)) == 0

    def test_a_bucket_that_is_not_there_is_said(self, tmp_path: Path):
        uri = parse_s3_uri("s3://no-such-bucket/a")
        for ask in (
            s3().read,
            lambda uri: s3().write(b"", uri, content_type="a/b"),
            lambda at: list(s3().list(at)),
        ):
            with pytest.raises(StorageError, match="there is no bucket no-such-bucket") as said:
                ask(uri)
            assert not said.value.transient


class TestSecrets:
    def test_a_wrong_secret_is_refused_at_once_and_no_key_is_said(
        self, server: S3Server, folder: S3Uri, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "marked-wrong-secret")
        client = S3()
        (tmp_path / "a").write_bytes(b"x")
        for ask in (
            client.head,
            client.read,
            client.delete,
            lambda uri: list(client.list(uri)),
            lambda uri: client.upload(tmp_path / "a", uri, content_type="a/b"),
        ):
            before = len(server.requests)
            with pytest.raises(StorageError, match=r"refuses \(.*check the credentials") as refused:
                ask(folder / "a")
            assert not isinstance(refused.value, StorageAwayError)
            assert refused.value.__cause__ is None
            assert len(server.requests) == before + 1
            for secret in ("marked-wrong-secret", SECRET_KEY, ACCESS_KEY):
                assert secret not in str(refused.value)

    def test_no_credentials_is_said(self, folder: S3Uri, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(StorageError, match="no credentials"):
            S3().head(folder / "a")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "half-of-them")
        with pytest.raises(StorageError, match="half of them") as said:
            S3().head(folder / "a")
        assert "half-of-them" not in str(said.value)

    @pytest.mark.parametrize("endpoint", ["no url", "http://id:marked-secret@127.0.0.1:1"])
    def test_an_endpoint_is_never_repeated(self, folder: S3Uri, monkeypatch: pytest.MonkeyPatch, endpoint: str):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        with pytest.raises(StorageError) as said:
            S3().head(folder / "a")
        assert "marked-secret" not in str(said.value)


class TestSharing:
    def test_threads_share_one_client(self, folder: S3Uri):
        client = S3()

        def use(number: int) -> bytes | None:
            client.write(b"%d" % number, folder / str(number), content_type="a/b")
            return client.read(folder / str(number))

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(use, range(32))) == [b"%d" % number for number in range(32)]

    def test_a_forked_process_speaks_over_connections_of_its_own(self, folder: S3Uri):
        s3().write(b"parent", folder / "parent", content_type="a/b")
        stop = threading.Event()

        def read_on() -> None:
            while not stop.is_set():
                assert s3().read(folder / "parent") == b"parent"

        def child() -> None:
            for number in range(10):
                s3().write(b"child", folder / f"child-{number}", content_type="a/b")
                assert s3().read(folder / "parent") == b"parent"

        thread = threading.Thread(target=read_on)
        thread.start()
        try:
            in_fork(child)
        finally:
            stop.set()
            thread.join()
        assert s3().read(folder / "child-9") == b"child"

    def test_boto3_is_loaded_by_who_needs_it(self):
        """Half a second that every encoder session would pay."""
        program = "import sys, fanreel.cli.command, fanreel.host.host; sys.exit('boto3' in sys.modules)"
        assert os.spawnl(os.P_WAIT, sys.executable, sys.executable, "-c", program) == 0
