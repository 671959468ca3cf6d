"""Photos from a real S3 server: single ones and whole folders, asked for as seldom as can be."""

import os
import time
import unicodedata
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from blake3 import blake3
from PIL import Image
from support.jobs import make_job
from support.s3_server import SECRET_KEY, Fault, S3Server, serve_s3

from fanreel.errors import (
    FanreelError,
    InvalidJobError,
    NotAllowedError,
    PhotoChangedError,
    PhotoNotFoundError,
    StorageAwayError,
    StorageError,
    UnreadablePhotoError,
)
from fanreel.host.host import Host, open_host
from fanreel.intake.listing import NamedPhoto
from fanreel.intake.photo_sharing import localize_photos, share_photos
from fanreel.intake.s3_photos import list_s3, name_s3
from fanreel.intake.sources import fetch_stills
from fanreel.job.parse import parse_job
from fanreel.plan.film import FilmPlan
from fanreel.plan.kinds import plan_films
from fanreel.remote import s3 as s3_module
from fanreel.remote.s3 import QUICK_SECONDS
from fanreel.remote.s3_uri import S3Object, S3Uri
from fanreel.render.here import plan_job
from fanreel.sessions.launcher import Launcher
from fanreel.settings import Settings
from fanreel.store.local import LocalStore


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory):
    with serve_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def server(running: S3Server, monkeypatch: pytest.MonkeyPatch):
    """The module's server, to which this process's client speaks, with nothing in its way and nothing noted."""
    running.use(monkeypatch, patiently=True)
    running.requests.clear()
    yield running
    running.heal()


@pytest.fixture
def folder(server: S3Server, request: pytest.FixtureRequest) -> Path:
    """A folder of the bucket that is this test's own."""
    path = server.bucket / "".join(letter for letter in request.node.name if letter.isalnum())[:60]
    path.mkdir()
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(store=tmp_path / "store", max_download_bytes=1_000_000)


def picture(value: int) -> bytes:
    data = BytesIO()
    Image.new("RGB", (8, 6), (value % 256, value // 256, 30)).save(data, "PNG")
    return data.getvalue()


def put(path: Path, value: int) -> str:
    """Write a photo into the server's folder; return its digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(value))
    return blake3(picture(value)).hexdigest()


def url(path: Path, *, is_folder: bool = False) -> str:
    return f"s3://{path.as_posix().partition('/buckets/')[2]}{'/' if is_folder else ''}"


def stills(settings: Settings, *uris: str, **words: object):
    job = parse_job({"photos": list(uris), "output": "/out/film.mp4"} | words)
    return fetch_stills(job, settings=settings).stills


def refusal(kind: type[FanreelError], settings: Settings, *uris: str) -> str:
    with pytest.raises(kind) as caught:
        stills(settings, *uris)
    assert type(caught.value) is kind
    assert SECRET_KEY not in str(caught.value)
    return str(caught.value)


def asked(server: S3Server, method: str, part: str = "") -> list[str]:
    return [request for request in server.requests if request.startswith(method) and part in request]


class TestOnePhoto:
    def test_it_is_known_by_its_bytes(self, folder: Path, settings: Settings):
        digest = put(folder / "a.png", 1)
        (still,) = stills(settings, url(folder / "a.png"))
        assert still.source.photo.digest == digest
        assert still.source.path == url(folder / "a.png")

    @pytest.mark.parametrize(
        "name", ["with space.png", "a?b#c.png", "фото.png", "100%25.png", "+plus&amp.png", "[x]*.png"]
    )
    def test_any_name(self, folder: Path, settings: Settings, name: str):
        digest = put(folder / name, 2)
        assert stills(settings, url(folder / name))[0].source.photo.digest == digest
        assert stills(settings, url(folder, is_folder=True))[0].source.path == url(folder / name)

    def test_a_slide(self, folder: Path, settings: Settings):
        digest = put(folder / "a.png", 3)
        job = parse_job({"slides": [{"photo": url(folder / "a.png"), "seconds": 7}], "output": "/film.mp4"})
        (still,) = fetch_stills(job, settings=settings).stills
        assert (still.source.photo.digest, still.seconds) == (digest, 7)

    def test_it_is_downloaded_once(self, server: S3Server, folder: Path, settings: Settings):
        put(folder / "a.png", 4)
        first = stills(settings, url(folder / "a.png"), url(folder / "a.png"))
        assert len(asked(server, "GET")) == 1
        assert stills(settings, url(folder / "a.png"))[0] == first[0]
        assert len(asked(server, "GET")) == 1
        assert len(asked(server, "HEAD")) == 2

    def test_a_slow_answer_is_waited_for(self, server: S3Server, folder: Path, settings: Settings):
        """Else the counts of these tests would depend on how busy the machine is."""
        put(folder / "a.png", 10)
        server.fail(Fault(delay_seconds=QUICK_SECONDS[1] + 0.5, method="GET"))
        stills(settings, url(folder / "a.png"))
        assert len(asked(server, "GET")) == 1

    def test_a_changed_one_is_downloaded_again(self, server: S3Server, folder: Path, settings: Settings):
        put(folder / "a.png", 5)
        stills(settings, url(folder / "a.png"))
        digest = put(folder / "a.png", 6)
        os.utime(folder / "a.png", (time.time() + 5,) * 2)
        assert len(picture(5)) == len(picture(6)), "the size alone must not tell"
        assert stills(settings, url(folder / "a.png"))[0].source.photo.digest == digest

    def test_a_kept_one_that_was_damaged_is_downloaded_again(self, server: S3Server, folder: Path, settings: Settings):
        digest = put(folder / "a.png", 7)
        stills(settings, url(folder / "a.png"))
        (kept,) = (path for path in settings.store.rglob("*") if path.is_file() and path.read_bytes() == picture(7))
        kept.write_bytes(b"x")
        assert stills(settings, url(folder / "a.png"))[0].source.photo.digest == digest
        assert len(asked(server, "GET")) == 2

    def test_one_that_is_not_there(self, folder: Path, settings: Settings):
        text = refusal(PhotoNotFoundError, settings, url(folder / "gone.png"))
        assert text == f"photos: {url(folder / 'gone.png')}: no such object"

    def test_a_folder_without_its_slash(self, folder: Path, settings: Settings):
        put(folder / "trip" / "a.png", 9)
        text = refusal(PhotoNotFoundError, settings, url(folder / "trip"))
        there = url(folder / "trip")
        assert text == f"photos: {there}: no such object, but a folder; the name of a folder ends in /: {there}/"
        assert refusal(PhotoNotFoundError, settings, url(folder / "tri")).endswith("tri: no such object")

    def test_one_that_is_none(self, folder: Path, settings: Settings):
        (folder / "a.png").write_text("no picture")
        text = refusal(UnreadablePhotoError, settings, url(folder / "a.png"))
        assert text == f"photos: {url(folder / 'a.png')}: not a picture that can be read"

    def test_one_that_is_too_large_is_not_downloaded(self, server: S3Server, folder: Path, settings: Settings):
        (folder / "a.png").write_bytes(b"x" * 1_000_001)
        assert "over 1 MB" in refusal(UnreadablePhotoError, settings, url(folder / "a.png"))
        assert asked(server, "GET") == []

    def test_bad_ones_are_left_out_where_the_job_says_so(self, folder: Path, settings: Settings):
        put(folder / "a.png", 8)
        uris = [url(folder / "a.png"), url(folder / "gone.png")]
        job = parse_job({"photos": uris, "output": "/film.mp4", "on_bad_photo": "skip"})
        fetched = fetch_stills(job, settings=settings)
        assert len(fetched.stills) == 1
        assert len(fetched.left_out) == 1

    @pytest.mark.parametrize("uri", ["s3://", "s3:///a.png", "s3://films/../a.png", "S3://films/a.png"])
    def test_what_is_no_s3_uri(self, server: S3Server, settings: Settings, uri: str):
        refusal(InvalidJobError, settings, uri)
        assert server.requests == []


class TestFolders:
    def test_its_photos_in_natural_order_by_one_question(self, server: S3Server, folder: Path, settings: Settings):
        names = ["IMG_2.png", "IMG_2 (1).png", "img_3.jfif", "IMG_10.PNG"]
        digests = [put(folder / name, 20 + number) for number, name in enumerate(names)]
        (folder / "notes.txt").write_bytes(b"no photo")
        (folder / "._1.png").write_bytes(b"no photo")
        put(folder / "deep" / "1.jpg", 19)
        found = stills(settings, url(folder, is_folder=True))
        assert [still.source.photo.digest for still in found] == digests
        assert len(asked(server, "GET", "list-type=2")) == 1
        assert asked(server, "HEAD") == []
        stills(settings, url(folder, is_folder=True))
        assert len(asked(server, "GET", "list-type=2")) == 2
        assert len(asked(server, "GET")) == 2 + len(names)

    def test_a_folder_whose_name_only_begins_alike_is_another_one(self, folder: Path, settings: Settings):
        digest = put(folder / "trip" / "a.png", 30)
        put(folder / "trip-2" / "b.png", 31)
        put(folder / "trip.png", 32)
        found = stills(settings, url(folder / "trip", is_folder=True))
        assert [still.source.photo.digest for still in found] == [digest]

    def test_an_empty_one(self, folder: Path, settings: Settings):
        (folder / "notes.txt").write_bytes(b"no photo")
        text = refusal(PhotoNotFoundError, settings, url(folder, is_folder=True))
        assert text.startswith(f"photos: {url(folder)}/: the folder holds no photo (.avif, ")

    def test_one_is_no_slide(self, folder: Path, settings: Settings):
        put(folder / "a.png", 33)
        job = parse_job({"slides": [{"photo": url(folder, is_folder=True)}], "output": "/film.mp4"})
        with pytest.raises(PhotoNotFoundError, match="a folder"):
            fetch_stills(job, settings=settings)

    def test_a_bucket_that_is_not_there(self, server: S3Server, settings: Settings):
        assert "there is no bucket" in refusal(StorageError, settings, "s3://nowhere/")

    def test_more_photos_than_readers(self, server: S3Server, folder: Path, settings: Settings):
        for number in range(40):
            (folder / f"{number}.png").write_bytes(picture(1000 + number))
        found = stills(settings, url(folder, is_folder=True))
        assert [Path(still.source.path).stem for still in found] == [str(number) for number in range(40)]
        assert asked(server, "HEAD") == []

    def test_the_same_is_left_out_of_it_as_of_a_folder_here(self, folder: Path, settings: Settings):
        for name in ("IMG_1.HEIC", "IMG_1.JPG", "IMG_E1.HEIC", "deep/1.png", "deep/2/x.png", ".hid/y.png", "a.jxl"):
            put(folder / name, 34)
        for name in ("IMG_1.MOV", "notes.txt"):
            (folder / name).write_bytes(b"no photo")
        job = parse_job({"photos": [url(folder, is_folder=True)], "output": "/film.mp4"})
        fetched = fetch_stills(job, settings=settings)
        assert [still.source.path for still in fetched.stills] == [url(folder / "IMG_E1.HEIC")]
        assert fetched.left_out == (
            f"{url(folder)}/a.jxl: JPEG XL; save it as JPEG, PNG or TIFF",
            f"{url(folder)}/: 1 video; not in a slideshow yet",
            f"{url(folder)}/deep/: a sub-folder with 2 photos; {url(folder)}/** takes all",
        )
        assert [note.partition(": ")[0] for note in fetched.notes] == [url(folder)]

    @pytest.mark.parametrize(
        ("pattern", "wanted"),
        [
            ("**", ["a1.png", "deep/a2.png", "deep/er/a3.jpg"]),
            ("*", ["a1.png"]),
            ("*.png", ["a1.png"]),
            ("**/*.png", ["a1.png", "deep/a2.png"]),
            ("**/**/a?.jpg", ["deep/er/a3.jpg"]),
            ("*/a[2-9]*", ["deep/a2.png"]),
            ("deep/**", ["deep/a2.png", "deep/er/a3.jpg"]),
            ("**/er/**", ["deep/er/a3.jpg"]),
            (".hid/*", [".hid/a4.png"]),
            ("**/*.dat", ["deep/a5.dat"]),
        ],
    )
    def test_a_pattern(self, server: S3Server, folder: Path, settings: Settings, pattern: str, wanted: list[str]):
        for number, name in enumerate(["a1.png", "deep/a2.png", "deep/er/a3.jpg", ".hid/a4.png", "deep/a5.dat"]):
            put(folder / name, 36 + number)
        (folder / "notes.txt").write_bytes(b"no photo")
        found = stills(settings, f"{url(folder)}/{pattern}")
        assert [still.source.path for still in found] == [url(folder / name) for name in wanted]
        assert len(asked(server, "GET", "list-type=2")) == 1

    def test_a_pattern_that_matches_nothing(self, folder: Path, settings: Settings):
        put(folder / "a.png", 35)
        text = refusal(PhotoNotFoundError, settings, f"{url(folder)}/*.jpg")
        assert text == f"photos: {url(folder)}/*.jpg: matches no file"

    @pytest.mark.parametrize(("asked_form", "form"), [("NFC", "NFD"), ("NFD", "NFC")])
    def test_keys_in_another_composition(self, folder: Path, settings: Settings, asked_form: str, form: str):
        there, here = (unicodedata.normalize(each, "Été") for each in (form, asked_form))
        put(folder / there / f"{there}.png", 37)
        wanted = url(folder / there / f"{there}.png")
        for entry in (f"{here}/", f"{here}/*.png", f"{here}/**", f"{here}/{here}.png", f"{here}/{here}*"):
            (still,) = stills(settings, f"{url(folder)}/{entry}")
            # This server itself takes one composition for the other in the names of folders.
            assert unicodedata.normalize(form, still.source.path) == wanted, entry
        slide = parse_job({"slides": [{"photo": f"{url(folder)}/{here}/{here}.png"}], "output": "/film.mp4"})
        assert unicodedata.normalize(form, fetch_stills(slide, settings=settings).stills[0].source.path) == wanted

    @pytest.mark.parametrize(("asked_form", "form"), [("NFC", "NFD"), ("NFD", "NFC")])
    def test_keys_in_another_composition_at_a_server_that_compares_bytes(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, asked_form: str, form: str
    ):
        there, here = (unicodedata.normalize(each, "été/é 1.png") for each in (form, asked_form))
        uri = S3Uri("films", there)
        known = {uri: S3Object(uri, 1, datetime.now(UTC))}

        class Bytewise:
            def head(self, uri: S3Uri) -> S3Object | None:
                return known.get(uri)

            def list(self, folder: S3Uri) -> list[S3Object]:
                return [found for key, found in known.items() if key.key.startswith(f"{folder.key}/")]

        monkeypatch.setattr(s3_module, "_OF_PROCESS", Bytewise())
        assert name_s3(f"s3://films/{here}", settings=settings) == NamedPhoto(str(uri), known[uri])
        folder = here.partition("/")[0]
        for entry in (f"s3://films/{folder}/", f"s3://films/{folder}/*", f"s3://films/{here[:-5]}*"):
            assert list_s3(entry, settings=settings).photos == (NamedPhoto(str(uri), known[uri]),), entry
        assert name_s3("s3://films/gone é.png", settings=settings) == NamedPhoto("s3://films/gone é.png")


class TestFaults:
    def test_away_is_told_as_that(self, server: S3Server, folder: Path, settings: Settings):
        put(folder / "a.png", 40)
        server.fail(Fault(status=503, times=-1))
        refusal(StorageAwayError, settings, url(folder / "a.png"))
        server.heal()
        assert stills(settings, url(folder / "a.png"))

    def test_a_cut_download_is_taken_up(self, server: S3Server, folder: Path, settings: Settings):
        digest = put(folder / "a.png", 41)
        server.fail(Fault(cut=True, method="GET"))
        assert stills(settings, url(folder / "a.png"))[0].source.photo.digest == digest

    def test_what_is_refused_is_no_bad_photo(
        self, server: S3Server, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ):
        put(folder / "a.png", 42)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{SECRET_KEY}-wrong")
        monkeypatch.setattr(s3_module, "_OF_PROCESS", s3_module.S3())
        with pytest.raises(StorageError) as caught:
            stills(settings, url(folder / "a.png"), on_bad_photo="skip")
        assert SECRET_KEY not in str(caught.value)


class TestRoots:
    def test_a_tenant_reads_below_its_prefix_only(self, server: S3Server, folder: Path, settings: Settings):
        for name in ("acme/a.png", "acme2/b.png", "other/c.png", "acme.png"):
            put(folder / name, 50)
        bounded = Settings(store=settings.store, roots=(f"{url(folder)}/acme",))
        assert stills(bounded, f"{url(folder)}/acme/")
        assert stills(bounded, f"{url(folder)}/acme/a.png")
        server.requests.clear()
        for name in (
            *("other/", "other/c.png", "acme2/", "acme2/b.png", "", "acme.png", "acme//a.png", "acme//"),
            *("*", "**", "ac*/a.png", "other/*", "é/c.png", "acme*"),
        ):
            refusal(NotAllowedError, bounded, f"{url(folder)}/{name}")
        refusal(NotAllowedError, bounded, "s3://other/acme/a.png")
        refusal(InvalidJobError, bounded, f"{url(folder)}/acme/../other/c.png")
        assert server.requests == [], "nothing was asked that may not be told"

    def test_letters_that_look_like_steps_are_letters(self, folder: Path, settings: Settings):
        put(folder / "other" / "c.png", 51)
        bounded = Settings(store=settings.store, roots=(f"{url(folder)}/acme",))
        for name in ("acme/%2e%2e/other/c.png", "acme/..%2fother/c.png", "acme/..\\other\\c.png"):
            refusal(PhotoNotFoundError, bounded, f"{url(folder)}/{name}")


class TestOnAnotherMachine:
    @pytest.fixture
    def host(self, host: Host, launcher: Launcher) -> Host:
        return open_host(host.settings, launcher=launcher)

    @pytest.fixture
    def plan(self, folder: Path, host: Host) -> FilmPlan:
        for number in range(3):
            put(folder / f"{number}.png", 60 + number)
        (plan,) = plan_job(make_job(host.settings.store.parent, photos=[url(folder, is_folder=True)]), host=host)
        return plan

    def other(self, tmp_path: Path, launcher: Launcher, **words: object) -> Host:
        return open_host(Settings(store=tmp_path / "other", lock_folder=tmp_path / "locks", **words), launcher=launcher)

    def test_it_fetches_what_it_needs_itself(self, plan: FilmPlan, tmp_path: Path, launcher: Launcher):
        assert all(uri.startswith("s3://films/") for uri in plan.photo_paths.values())
        other = self.other(tmp_path, launcher)
        local = localize_photos(plan, plan.segments, settings=other.settings, store=other.store)
        for digest, path in local.photo_paths.items():
            assert blake3(Path(path).read_bytes()).hexdigest() == digest

    def test_the_machine_that_planned_does_not_ask_again(self, server: S3Server, plan: FilmPlan, host: Host):
        server.requests.clear()
        local = localize_photos(plan, plan.segments, settings=host.settings, store=host.store)
        assert all(Path(path).is_file() for path in local.photo_paths.values())
        assert server.requests == []

    def test_only_the_photos_of_its_segments(
        self, server: S3Server, plan: FilmPlan, tmp_path: Path, launcher: Launcher
    ):
        assert len(plan.segments) > 1, "else there is nothing to leave out"
        server.requests.clear()
        other = self.other(tmp_path, launcher)
        localize_photos(plan, plan.segments[:1], settings=other.settings, store=other.store)
        shown = len(plan.timeline.clips_between(0, plan.segments[0].end_frame))
        assert len(asked(server, "GET")) == shown < 3

    def test_another_photo_by_now(self, plan: FilmPlan, folder: Path, tmp_path: Path, launcher: Launcher):
        put(folder / "1.png", 99)
        other = self.other(tmp_path, launcher)
        with pytest.raises(PhotoChangedError, match=r"1\.png: changed since the film was planned"):
            localize_photos(plan, plan.segments, settings=other.settings, store=other.store)

    def test_what_it_may_not_read_is_not_asked_for(
        self, server: S3Server, plan: FilmPlan, tmp_path: Path, launcher: Launcher
    ):
        server.requests.clear()
        other = self.other(tmp_path, launcher, roots=("s3://films/else",))
        with pytest.raises(NotAllowedError):
            localize_photos(plan, plan.segments, settings=other.settings, store=other.store)
        assert server.requests == []

    def test_sharing_leaves_them_in_s3(self, plan: FilmPlan, tmp_path: Path, launcher: Launcher):
        other = self.other(tmp_path, launcher)
        share_photos(plan, settings=other.settings, store=other.store)
        assert isinstance(other.store, LocalStore)
        assert [other.store.local_photo(digest) for digest in plan.photo_paths] == [None] * 3


def test_no_credential_is_in_a_plan_or_on_the_disk(folder: Path, settings: Settings):
    put(folder / "a.png", 70)
    job = parse_job({"photos": [url(folder / "a.png")], "output": "/out/film.mp4"})
    (plan,) = plan_films(job, fetch_stills(job, settings=settings), output="/out/film.mp4")
    assert SECRET_KEY not in repr(plan)
    files = [path for path in settings.store.rglob("*") if path.is_file()]
    assert len(files) > 1
    assert not [path for path in files if SECRET_KEY.encode() in path.read_bytes()]
