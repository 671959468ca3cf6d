"""Films published to a real S3 server: whole, with a certificate at every moment, whoever dies or publishes beside."""

import json
import logging
import os
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3
from support.jobs import draw_photo, make_job
from support.s3_server import BUCKET, SECRET_KEY, Fault, S3Server, serve_s3
from support.web_server import say, serve_web

from fanreel.cli.command import main
from fanreel.errors import (
    FilmDamagedError,
    NotAllowedError,
    OutputExistsError,
    RequestError,
    StorageAwayError,
    StorageError,
    VerificationError,
)
from fanreel.host.host import Host, open_host
from fanreel.join.certificate import certificate_path, read_certificate
from fanreel.plan.film import FilmPlan, plan_digest
from fanreel.publish import s3_destination
from fanreel.publish.open import check_output, open_destination
from fanreel.publish.published import verify_film, verify_published
from fanreel.publish.s3_destination import S3Folder
from fanreel.remote import s3 as s3_module
from fanreel.remote.s3_uri import parse_s3_uri
from fanreel.render.draft import join_film, publish_film
from fanreel.render.film_run import FilmRun, FilmWatcher
from fanreel.render.here import plan_job, render_job
from fanreel.render.order import order_render
from fanreel.sessions.launcher import Launcher
from fanreel.settings import Settings, read_settings
from fanreel.store.inventory import take_inventory

FILM = b"film " * 1_800_000
"""9 MB: two parts."""

SIGNATURE = "marked-signature-77aa"

NAMES = ["film.mp4", "film.mp4.certificate.json"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory):
    with serve_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def server(running: S3Server, monkeypatch: pytest.MonkeyPatch):
    running.use(monkeypatch)
    running.requests.clear()
    yield running
    running.heal()


@pytest.fixture
def folder(server: S3Server, request: pytest.FixtureRequest) -> Path:
    """A folder of the bucket that is this test's own; it is there as soon as something lies in it."""
    return server.bucket / "".join(letter for letter in request.node.name if letter.isalnum())[:60]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(store=tmp_path / "store")


def url(folder: Path, name: str = "film.mp4") -> str:
    return f"s3://{BUCKET}/{folder.name}/{name}"


def make_draft(tmp_path: Path, content: bytes = FILM, *, plan: str = "a plan") -> Path:
    tmp_path.mkdir(exist_ok=True)
    draft = tmp_path / "draft.mp4"
    draft.write_bytes(content)
    certificate_path(draft).write_text(json.dumps({"plan": plan, "of": blake3(content).hexdigest()}))
    return draft


def fetched_certificate(destination: S3Folder, folder: Path) -> dict[str, str] | None:
    folder.mkdir(exist_ok=True)
    path = destination.fetch_certificate(folder)
    return json.loads(path.read_bytes()) if path else None


def assert_consistent(destination: S3Folder, folder: Path, tmp_path: Path) -> bytes | None:
    """The film that is there, if there is one, has its certificate; return its bytes."""
    path = folder / "film.mp4"
    if not path.exists():
        return None
    certificate = fetched_certificate(destination, tmp_path / "read")
    assert certificate is not None, "a film without a certificate"
    assert certificate["of"] == blake3(path.read_bytes()).hexdigest()
    return path.read_bytes()


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestPublish:
    def test_film_and_certificate_are_there_with_their_types(self, folder: Path, settings: Settings, tmp_path: Path):
        draft = make_draft(tmp_path / "draft")
        certificate = certificate_path(draft).read_bytes()
        assert S3Folder(url(folder), settings).publish(draft) == url(folder)
        assert (folder / "film.mp4").read_bytes() == FILM
        assert (folder / "film.mp4.certificate.json").read_bytes() == certificate
        assert listed(folder) == NAMES
        assert list(draft.parent.iterdir()) == []
        film = s3_module.s3().head(parse_s3_uri(url(folder)))
        assert film is not None
        assert (film.size_bytes, film.metadata["blake3"]) == (len(FILM), blake3(FILM).hexdigest())
        for name, kind in zip(NAMES, ("video/mp4", "application/json"), strict=True):
            with urllib.request.urlopen(s3_module.s3().sign(parse_s3_uri(url(folder, name)), seconds=60)) as answer:
                assert answer.headers["Content-Type"] == kind

    def test_a_large_film_goes_up_in_parts(self, server: S3Server, folder: Path, settings: Settings, tmp_path: Path):
        S3Folder(url(folder), settings).publish(make_draft(tmp_path / "draft"))
        assert len([request for request in server.requests if "partNumber=" in request]) == 2

    def test_over_an_older_film(self, folder: Path, settings: Settings, tmp_path: Path):
        destination = S3Folder(url(folder), settings)
        for content in (b"old film", b"new film"):
            destination.publish(make_draft(tmp_path / "draft", content))
            assert assert_consistent(destination, folder, tmp_path) == content
        assert listed(folder) == NAMES

    def test_done_again_it_changes_nothing(self, server: S3Server, folder: Path, settings: Settings, tmp_path: Path):
        destination = S3Folder(url(folder), settings)
        destination.publish(make_draft(tmp_path / "draft"))
        before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        server.requests.clear()
        assert destination.publish(make_draft(tmp_path / "draft")) == url(folder)
        assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
        assert not [request for request in server.requests if request.startswith(("PUT", "POST"))]
        assert list((tmp_path / "draft").iterdir()) == []

    def test_the_same_film_of_another_plan_gets_the_new_certificate_alone(
        self, server: S3Server, folder: Path, settings: Settings, tmp_path: Path
    ):
        """As when its photos have moved."""
        destination = S3Folder(url(folder), settings)
        destination.publish(make_draft(tmp_path / "draft", plan="one"))
        server.requests.clear()
        destination.publish(make_draft(tmp_path / "draft", plan="two"))
        found = fetched_certificate(destination, tmp_path / "read")
        assert found is not None
        assert found["plan"] == "two"
        assert not [request for request in server.requests if "partNumber=" in request]

    def test_a_film_of_ours_is_known_by_its_digest(self, folder: Path, settings: Settings, tmp_path: Path):
        destination = S3Folder(url(folder), settings)
        assert destination.previous() is None
        destination.publish(make_draft(tmp_path / "draft"))
        previous = destination.previous()
        assert previous is not None
        assert previous.is_ours
        check_output(url(folder), overwrite=False, settings=settings)

    def test_what_someone_else_put_there_is_replaced_only_if_that_is_allowed(
        self, folder: Path, settings: Settings, tmp_path: Path
    ):
        """Also where it took the place of a film of ours, whose certificate is still there."""
        destination = S3Folder(url(folder), settings)
        destination.publish(make_draft(tmp_path / "draft", b"a film of ours"))
        (tmp_path / "foreign").write_bytes(b"theirs")
        s3_module.s3().upload(tmp_path / "foreign", parse_s3_uri(url(folder)), content_type="video/mp4")
        with pytest.raises(OutputExistsError, match=r"film\.mp4 is a file that fanreel did not make \(6 bytes, 20"):
            check_output(url(folder), overwrite=False, settings=settings)
        check_output(url(folder), overwrite=True, settings=settings)
        destination.publish(make_draft(tmp_path / "draft"))
        assert assert_consistent(destination, folder, tmp_path) == FILM

    def test_in_the_bucket_itself(self, server: S3Server, settings: Settings, tmp_path: Path):
        S3Folder(f"s3://{BUCKET}/alone.mp4", settings).publish(make_draft(tmp_path / "draft", b"film"))
        assert (server.bucket / "alone.mp4").read_bytes() == b"film"
        assert (server.bucket / "alone.mp4.certificate.json").exists()

    def test_a_draft_that_is_gone_is_told(self, folder: Path, settings: Settings, tmp_path: Path):
        with pytest.raises(StorageError, match="could not publish s3://"):
            S3Folder(url(folder), settings).publish(tmp_path / "gone.mp4")

    def test_a_server_that_keeps_no_metadata_is_told(
        self, folder: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        upload = s3_module.S3.upload
        monkeypatch.setattr(
            s3_module.S3,
            "upload",
            lambda self, path, place, **words: upload(self, path, place, **words | {"metadata": {}}),
        )
        draft = make_draft(tmp_path / "draft", b"film")
        with pytest.raises(StorageError, match=r"4 bytes with their blake3 were sent, and the server has 4 bytes"):
            S3Folder(url(folder), settings).publish(draft)
        assert draft.exists()

    def test_a_film_that_arrived_short_is_told(
        self, folder: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        upload = s3_module.S3.upload

        def shorten(self: s3_module.S3, path: Path, place: object, **words: object) -> None:
            if str(place).endswith("film.mp4"):
                path = tmp_path / "short"
                path.write_bytes(b"fil")
            upload(self, path, place, **words)

        monkeypatch.setattr(s3_module.S3, "upload", shorten)
        draft = make_draft(tmp_path / "draft", b"film")
        with pytest.raises(StorageError, match="4 bytes with their blake3 were sent, and the server has 3 bytes"):
            S3Folder(url(folder), settings).publish(draft)
        assert draft.exists()


def steps_of(monkeypatch: pytest.MonkeyPatch, around: Callable[[int, str], None]) -> None:
    """Call `around` before each change to the server: with its number, from 0, and the object's name."""
    count = iter(range(1000))
    for name in ("upload", "delete", "write"):
        method = getattr(s3_module.S3, name)

        def stepped(self: s3_module.S3, *words: object, method=method, name=name, **more: object):
            place = words[1] if name != "delete" else words[0]
            around(next(count), f"{name} {str(place).rpartition('/')[2]}")
            return method(self, *words, **more)

        monkeypatch.setattr(s3_module.S3, name, stepped)


class _KilledError(BaseException):
    pass


class TestDeath:
    @pytest.mark.parametrize("older", [None, b"old film"])
    def test_at_every_step_the_film_that_is_there_has_its_certificate(
        self, folder: Path, settings: Settings, tmp_path: Path, older: bytes | None
    ):
        destination, seen = S3Folder(url(folder), settings), []
        for step in range(20):
            for path in folder.iterdir() if folder.exists() else ():
                path.unlink()
            if older:
                destination.publish(make_draft(tmp_path / "draft", older))

            def die(number: int, name: str, step: int = step) -> None:
                if number == step:
                    raise _KilledError

            draft = make_draft(tmp_path / "draft", b"new film")
            with pytest.MonkeyPatch.context() as patch:
                steps_of(patch, die)
                try:
                    destination.publish(draft)
                    is_killed = False
                except _KilledError:
                    is_killed = True
            seen.append(assert_consistent(destination, folder, tmp_path))
            # The same run again: it ends as if nothing had been, and leaves nothing beside.
            if is_killed:
                destination.publish(draft)
            assert assert_consistent(destination, folder, tmp_path) == b"new film"
            assert listed(folder) == NAMES
            if not is_killed:
                break
        assert seen == [older, older, *[b"new film"] * (len(seen) - 2)]
        assert len(seen) == 5

    @pytest.mark.parametrize("method", ["PUT", "POST"])
    def test_a_server_that_fails_leaves_the_film_that_was_there(
        self, server: S3Server, folder: Path, settings: Settings, tmp_path: Path, method: str
    ):
        destination = S3Folder(url(folder), settings)
        destination.publish(make_draft(tmp_path / "draft", b"old film"))
        draft = make_draft(tmp_path / "draft")
        server.fail(Fault(status=503, times=-1, method=method, part="/film.mp4?"))
        with pytest.raises(StorageAwayError):
            destination.publish(draft)
        server.heal()
        assert assert_consistent(destination, folder, tmp_path) == b"old film"
        assert draft.exists()
        destination.publish(draft)
        assert assert_consistent(destination, folder, tmp_path) == FILM
        assert listed(folder) == NAMES

    def test_an_upload_that_is_cut_is_sent_again(
        self, server: S3Server, folder: Path, settings: Settings, tmp_path: Path
    ):
        server.fail(Fault(cut=True, method="PUT", part="partNumber=2"))
        destination = S3Folder(url(folder), settings)
        destination.publish(make_draft(tmp_path / "draft"))
        assert assert_consistent(destination, folder, tmp_path) == FILM

    @pytest.mark.soak
    def test_killed_by_the_kernel_at_any_moment(self, folder: Path, settings: Settings, tmp_path: Path):
        destination = S3Folder(url(folder), settings)
        destination.publish(make_draft(tmp_path / "draft", b"old film"))
        for step in range(4):
            draft = make_draft(tmp_path / "draft", b"new film %d" % step)
            pid = os.fork()
            if pid == 0:
                steps_of(
                    pytest.MonkeyPatch(),
                    lambda number, name, step=step: os.kill(os.getpid(), 9) if number == step else None,
                )
                destination.publish(draft)
                os._exit(3)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
            found = assert_consistent(destination, folder, tmp_path)
            assert found is not None
            assert (found == b"new film %d" % step) == (step >= 2)


class TestOthers:
    def test_another_run_between_film_and_certificate(
        self, folder: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """It is done, and has taken its waiting certificate away, before ours takes the place of its own."""
        monkeypatch.setattr(s3_destination.random, "uniform", lambda low, high: 0.01)
        destination, other = S3Folder(url(folder), settings), make_draft(tmp_path / "other", b"other film")
        ours, done = make_draft(tmp_path / "draft", b"our film"), []

        def intrude(number: int, name: str) -> None:
            if name == "upload film.mp4.certificate.json" and not done:
                done.append(number)
                S3Folder(url(folder), settings).publish(other)

        with pytest.MonkeyPatch.context() as patch:
            steps_of(patch, intrude)
            destination.publish(ours)
        assert done
        assert assert_consistent(destination, folder, tmp_path) == b"our film"
        assert listed(folder) == NAMES

    def test_others_all_the_time(
        self, folder: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(s3_destination.random, "uniform", lambda low, high: 0.01)
        intruding = []

        def intrude(number: int, name: str) -> None:
            if name == "upload film.mp4.certificate.json" and not intruding:
                intruding.append(number)
                S3Folder(url(folder), settings).publish(make_draft(tmp_path / "other", b"other %d" % number))
                intruding.clear()

        draft = make_draft(tmp_path / "draft", b"our film")
        with pytest.MonkeyPatch.context() as patch:
            steps_of(patch, intrude)
            with pytest.raises(StorageAwayError, match="publish once more"):
                S3Folder(url(folder), settings).publish(draft)
        assert draft.exists()
        S3Folder(url(folder), settings).publish(draft)
        assert assert_consistent(S3Folder(url(folder), settings), folder, tmp_path) == b"our film"

    @pytest.mark.soak
    def test_many_processes_at_once_never_mix(self, folder: Path, settings: Settings, tmp_path: Path):
        contents = [b"film of run %d" % number for number in range(4)]
        pids = []
        for number, content in enumerate(contents):
            draft = make_draft(tmp_path / f"draft-{number}", content)
            pid = os.fork()
            if pid == 0:
                try:
                    S3Folder(url(folder), settings).publish(draft)
                finally:
                    os._exit(sys.exc_info()[0] is not None)
            pids.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * len(pids)
        assert assert_consistent(S3Folder(url(folder), settings), folder, tmp_path) in contents
        assert listed(folder) == NAMES


class TestCheck:
    def test_a_place_that_will_do(self, server: S3Server, folder: Path, settings: Settings, tmp_path: Path):
        destination = S3Folder(url(folder), settings)
        destination.check()
        assert not folder.exists(), "it writes nothing"
        destination.publish(make_draft(tmp_path / "draft", b"film"))
        server.requests.clear()
        destination.check()
        assert [request.partition(" ")[0] for request in server.requests] == ["HEAD"]

    def test_no_such_bucket(self, server: S3Server, settings: Settings):
        with pytest.raises(StorageError, match="there is no bucket nowhere"):
            S3Folder("s3://nowhere/film.mp4", settings).check()

    def test_wrong_credentials(self, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{SECRET_KEY}-wrong")
        monkeypatch.setattr(s3_module, "_OF_PROCESS", s3_module.S3())
        with pytest.raises(StorageError) as caught:
            S3Folder(url(folder), settings).check()
        assert SECRET_KEY not in str(caught.value)

    def test_a_server_that_is_away(self, server: S3Server, folder: Path, settings: Settings):
        server.fail(Fault(status=500, times=-1))
        with pytest.raises(StorageAwayError):
            S3Folder(url(folder), settings).check()

    def test_a_place_that_is_not_allowed_is_not_asked_for(
        self, server: S3Server, folder: Path, settings: Settings, tmp_path: Path
    ):
        bounded = Settings(store=settings.store, roots=(f"s3://{BUCKET}/acme",))
        destination = S3Folder(f"s3://{BUCKET}/acme2/film.mp4", bounded)
        with pytest.raises(NotAllowedError, match="FANREEL_ROOTS"):
            destination.check()
        with pytest.raises(NotAllowedError):
            destination.publish(make_draft(tmp_path / "draft", b"film"))
        assert server.requests == []


class TestLinks:
    def test_none_unless_the_operator_wants_one(self, server: S3Server, folder: Path, settings: Settings):
        assert S3Folder(url(folder), settings).link() == ""

    def test_a_signed_one_is_readable_by_anyone_who_has_it(self, folder: Path, settings: Settings, tmp_path: Path):
        destination = S3Folder(url(folder, "two words+é.mp4"), Settings(store=settings.store, link_seconds=60))
        destination.publish(make_draft(tmp_path / "draft", b"film"))
        link = destination.link()
        assert SECRET_KEY not in link
        assert "X-Amz-Expires=60" in link
        with urllib.request.urlopen(link) as answer:
            assert answer.read() == b"film"
            assert answer.headers["Content-Type"] == "video/mp4"

    @pytest.mark.parametrize(
        ("public_url", "wanted"),
        [
            ("https://films.test", "https://films.test/a%20b/film%2B%C3%A9.mp4"),
            ("https://cdn.test/public/{bucket}", "https://cdn.test/public/films/a%20b/film%2B%C3%A9.mp4"),
        ],
    )
    def test_a_public_one_is_not_signed(self, settings: Settings, public_url: str, wanted: str):
        public = Settings(store=settings.store, public_url=public_url, link_seconds=60)
        assert S3Folder(f"s3://{BUCKET}/a b/film+é.mp4", public).link() == wanted

    def test_the_operator_s_words(self, monkeypatch: pytest.MonkeyPatch):
        assert (read_settings().link_seconds, read_settings().public_url) == (0, "")
        monkeypatch.setenv("FANREEL_LINK_SECONDS", "604800")
        monkeypatch.setenv("FANREEL_PUBLIC_URL", "https://cdn.test/films/")
        assert (read_settings().link_seconds, read_settings().public_url) == (604800, "https://cdn.test/films")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("FANREEL_LINK_SECONDS", value) for value in ("604801", "-1", "an hour")),
            *(
                ("FANREEL_PUBLIC_URL", value)
                for value in ("cdn.test", "https://", "https://a?b", "https://u:p@a", "s3://a")
            ),
        ],
    )
    def test_words_that_make_no_link(self, monkeypatch: pytest.MonkeyPatch, name: str, value: str):
        monkeypatch.setenv(name, value)
        with pytest.raises(RequestError, match=name):
            read_settings()


class TestFilm:
    """A real film, from photos to its place in S3."""

    @pytest.fixture
    def host(self, host: Host, launcher: Launcher) -> Host:
        return open_host(
            Settings(store=host.settings.store, lock_folder=host.settings.lock_folder, link_seconds=600),
            launcher=launcher,
        )

    def downloaded(self, folder: Path, tmp_path: Path) -> Path:
        """The film and its certificate, as someone would fetch them."""
        for name in NAMES:
            (tmp_path / name).write_bytes((folder / name).read_bytes())
        return tmp_path / NAMES[0]

    def plan(self, host: Host, photos: Path, folder: Path, **words: object) -> FilmPlan:
        (plan,) = plan_job(make_job(photos.parent, output=url(folder), seconds_per_slide=1, **words), host=host)
        return plan

    def test_it_is_rendered_published_and_proven(
        self, host: Host, photos: Path, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ):
        caplog.set_level(logging.DEBUG, logger="fanreel")
        (report,) = render_job(make_job(photos.parent, output=url(folder), seconds_per_slide=1), host=host)
        assert report.film == url(folder)
        certificate = verify_film(self.downloaded(folder, tmp_path), full=True)
        assert certificate.frame_count == report.frame_count == 32
        # The link stands in the report, and nowhere else.
        assert f"link      {report.link}" in str(report).splitlines()
        with urllib.request.urlopen(report.link) as answer:
            assert answer.read() == (folder / "film.mp4").read_bytes()
        signature = report.link.partition("X-Amz-Signature=")[2]
        assert len(signature) == 64
        written = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert not [path for path in written if signature.encode() in path.read_bytes()]
        assert signature not in caplog.text

    def test_from_photos_in_s3_and_on_the_web_and_nothing_secret_is_written(
        self, host: Host, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ):
        caplog.set_level(logging.DEBUG, logger="fanreel")
        (folder / "in").mkdir(parents=True)
        for seed in range(2):
            draw_photo(folder / "in" / f"{seed}.jpg", seed=seed)
        draw_photo(tmp_path / "web.jpg", seed=2)
        settings = Settings(
            store=tmp_path / "store",
            lock_folder=host.settings.lock_folder,
            private_hosts=("127.0.0.1",),
            roots=(f"s3://{BUCKET}/{folder.name}",),
        )
        with serve_web() as web:
            web.answers["/web.jpg"] = say(200, (tmp_path / "web.jpg").read_bytes())
            places = [url(folder, "in/"), f"{web.url}/web.jpg?X-Amz-Signature={SIGNATURE}"]
            job = make_job(tmp_path, photos=places, output=url(folder), seconds_per_slide=1)
            (report,) = render_job(job, host=open_host(settings, launcher=host.launcher))
        assert verify_film(self.downloaded(folder, tmp_path), full=True).frame_count == 24
        written = [path for place in (tmp_path, folder) for path in place.rglob("*") if path.is_file()]
        assert len(written) > 8
        for secret in (SECRET_KEY, SIGNATURE):
            assert not [path for path in written if secret.encode() in path.read_bytes()]
            assert secret not in caplog.text + str(report)
        assert SIGNATURE in web.paths[0]

    def test_published_again_after_its_draft_is_gone(self, host: Host, photos: Path, folder: Path, tmp_path: Path):
        """As when the task that did it is tried again."""
        plan = self.plan(host, photos, folder)
        render_job(make_job(photos.parent, output=url(folder), seconds_per_slide=1), host=host)
        draft = join_film(plan, host=host)
        assert publish_film(plan, draft, settings=host.settings).film == url(folder)
        before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        assert publish_film(plan, draft, settings=host.settings).film == url(folder)
        assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
        other = self.plan(host, photos, folder, encoding={"preset": "draft", "quality": 31})
        with pytest.raises(StorageError, match="publish"):
            publish_film(other, draft, settings=host.settings)
        path = self.downloaded(folder, tmp_path)
        assert read_certificate(certificate_path(path)).plan == plan_digest(plan)
        unlinked = replace(host, settings=replace(host.settings, link_seconds=0, public_url=""))
        run = FilmRun(plan, order_render(plan, host=host), host=unlinked, watcher=FilmWatcher(), begun_at=0.0)
        report = run.publish(draft)
        assert report.link == ""
        assert "link" not in str(report)

    def test_whether_it_was_published_is_not_guessed_while_the_server_is_away(
        self, server: S3Server, host: Host, photos: Path, folder: Path
    ):
        plan = self.plan(host, photos, folder)
        server.fail(Fault(status=503, times=-1))
        with pytest.raises(StorageAwayError):
            open_destination(plan.output, settings=host.settings).holds(plan_digest(plan))

    def test_damage_is_found_by_whoever_fetches_it(self, host: Host, photos: Path, folder: Path, tmp_path: Path):
        render_job(make_job(photos.parent, output=url(folder), seconds_per_slide=1), host=host)
        path = self.downloaded(folder, tmp_path)
        data = bytearray(path.read_bytes())
        data[-100] ^= 1
        path.write_bytes(data)
        with pytest.raises(VerificationError):
            verify_film(path)

    def test_it_is_verified_where_it_is(
        self, host: Host, photos: Path, folder: Path, capsys: pytest.CaptureFixture[str]
    ):
        render_job(make_job(photos.parent, output=url(folder), seconds_per_slide=1), host=host)
        assert verify_published(url(folder), settings=host.settings, full=True).frame_count == 32
        assert main(["verify", url(folder)]) == 0
        assert f"{url(folder)}: whole, 32 frames" in capsys.readouterr().out
        data = bytearray((folder / "film.mp4").read_bytes())
        data[-100] ^= 1
        # Written through the protocol: the server would not see a change behind its back.
        path = folder.parent / "damaged"
        path.write_bytes(data)
        film = s3_module.s3().head(parse_s3_uri(url(folder)))
        assert film is not None
        s3_module.s3().upload(path, film.uri, content_type="video/mp4", metadata=film.metadata)
        with pytest.raises(FilmDamagedError, match=f"^{url(folder)} is damaged"):
            verify_published(url(folder), settings=host.settings)
        assert main(["verify", url(folder)]) == 6
        assert list((host.settings.store / "scratch").glob("*/film.mp4")) == []

    @pytest.mark.parametrize("name", ["gone.mp4", "film.mp4"])
    def test_what_is_not_there_or_has_no_certificate_is_said_to_be_so(
        self, server: S3Server, folder: Path, settings: Settings, name: str
    ):
        folder.mkdir()
        (folder / "film.mp4").write_bytes(b"no film of ours")
        with pytest.raises(
            StorageError, match=f"^{url(folder, name)}: (there is no such film|no certificate beside it)"
        ):
            verify_published(url(folder, name), settings=settings)

    def test_a_bucket_that_is_not_there_is_found_before_anything_is_rendered(
        self, server: S3Server, host: Host, photos: Path
    ):
        job = make_job(photos.parent, output="s3://nowhere/film.mp4")
        with pytest.raises(StorageError, match="there is no bucket"):
            render_job(job, host=host, on_order=lambda order: pytest.fail("it was to be rendered"))

    def test_credentials_that_run_out_in_mid_upload_are_told_and_the_upload_alone_is_done_again(
        self, server: S3Server, host: Host, photos: Path, folder: Path, capsys: pytest.CaptureFixture[str]
    ):
        expired = Fault(status=400, code="ExpiredToken", times=-1, method="PUT", part="/film.mp4")
        job = make_job(photos.parent, output=url(folder), seconds_per_slide=1)
        server.fail(expired)
        with pytest.raises(StorageError) as caught:
            render_job(job, host=host)
        assert str(caught.value) == (
            f"{url(folder)}: the credentials have run out (ExpiredToken); get fresh ones and run the same again; "
            "only the publishing is left to do, the film's segments are kept"
        )
        assert not isinstance(caught.value, StorageAwayError)
        (film,) = take_inventory(host.store.files).films
        assert film.manifest.stopped_at
        assert film.is_in_work, "its segments stay"
        server.heal()
        (report,) = render_job(job, host=host)
        assert (report.segments_rendered, report.segments_reused) == (0, film.segments_there)
        assert take_inventory(host.store.files).films[0].manifest.published_at

    def test_credentials_that_have_run_out_before_are_told_without_a_reason_from_the_server(
        self, server: S3Server, settings: Settings, folder: Path
    ):
        """The answer to HEAD has none."""
        server.fail(Fault(status=400, times=-1, method="HEAD"))
        with pytest.raises(StorageError, match=r"refuses \(400\), as where credentials have run out; check"):
            S3Folder(url(folder), settings).check()
