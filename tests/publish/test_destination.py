"""Publishing: under its final name a film is whole, or the one that was there before."""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import av
import pytest
from support.jobs import draw_photo, make_job
from support.processes import in_fork, killed_at

from fanreel.errors import FilmDamagedError, OutputExistsError, StorageError, StorageFullError
from fanreel.host.host import Host, open_host
from fanreel.join.certificate import certificate_path
from fanreel.plan.film import FilmPlan, plan_digest
from fanreel.publish.destination import LocalFolder
from fanreel.publish.open import check_output
from fanreel.publish.published import next_certificate_path, verify_film
from fanreel.render.draft import Draft, join_film, publish_film
from fanreel.render.here import plan_job, render_job
from fanreel.sessions.launcher import Launcher
from fanreel.settings import Settings

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")

FILM, CERTIFICATE = b"film " * 50_000, b'{"certificate": 1}'


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, launcher: Launcher) -> Host:
    """A host that the module's tests share, with the segments of their films."""
    folder = tmp_path_factory.mktemp("host")
    return open_host(Settings(store=folder / "store", lock_folder=folder / "locks"), launcher=launcher)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory, host: Host) -> tuple[FilmPlan, FilmPlan]:
    """Two films for the same output, all segments in the store."""
    base = tmp_path_factory.mktemp("films")
    for seed in range(2):
        draw_photo(base / f"photo-{seed}.jpg", seed=seed)
    plans = []
    for quality in (30, 40):
        job = make_job(base, photos=["*.jpg"], encoding={"preset": "draft", "quality": quality})
        render_job(job, host=host)
        plans.append(plan_job(job, host=host)[0])
    return plans[0], plans[1]


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    return make_draft(tmp_path / "store")


@pytest.fixture
def far_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    if folder.stat().st_dev == tmp_path.stat().st_dev:
        folder.rmdir()
        pytest.skip("needs /dev/shm as a file system of its own")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def small_disk(mount: Callable[[str], Path]) -> Path:
    """A file system of 64 KiB."""
    return mount("size=64k")


def make_draft(folder: Path, content: bytes = FILM) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / "draft.mp4"
    draft.write_bytes(content)
    certificate_path(draft).write_bytes(CERTIFICATE)
    return draft


def as_nobody(body: Callable[[], object]) -> None:
    in_fork(body, uid=NOBODY)


class TestPublish:
    def test_into_a_folder_that_is_not_there_yet(self, draft: Path, tmp_path: Path):
        film = tmp_path / "a" / "b" / "film.mp4"
        assert LocalFolder(film).publish(draft) == str(film)
        assert film.read_bytes() == FILM
        assert certificate_path(film).read_bytes() == CERTIFICATE
        assert sorted(path.name for path in film.parent.iterdir()) == ["film.mp4", "film.mp4.certificate.json"]
        assert not draft.exists()

    def test_over_an_existing_film(self, draft: Path, tmp_path: Path):
        film = tmp_path / "film.mp4"
        film.write_bytes(b"old")
        LocalFolder(film).publish(draft)
        assert film.read_bytes() == FILM

    def test_a_reader_of_the_old_film_reads_it_to_its_end(self, draft: Path, tmp_path: Path):
        film = tmp_path / "film.mp4"
        film.write_bytes(b"old")
        with film.open("rb") as reader:
            LocalFolder(film).publish(draft)
            assert reader.read() == b"old"

    def test_across_file_systems(self, draft: Path, far_folder: Path):
        film = far_folder / "film.mp4"
        film.write_bytes(b"old")
        LocalFolder(film).publish(draft)
        assert film.read_bytes() == FILM
        assert certificate_path(film).read_bytes() == CERTIFICATE
        assert sorted(path.name for path in far_folder.iterdir()) == ["film.mp4", "film.mp4.certificate.json"]
        assert not draft.exists()

    def test_what_a_killed_run_left_across_file_systems_is_overwritten(self, draft: Path, far_folder: Path):
        film = far_folder / "film.mp4"
        (far_folder / ".film.mp4.part").write_bytes(b"left" * 1_000_000)
        LocalFolder(film).publish(draft)
        assert film.read_bytes() == FILM
        assert not (far_folder / ".film.mp4.part").exists()

    def test_many_processes_publish_the_same_film_across_file_systems(self, tmp_path: Path, far_folder: Path):
        film = far_folder / "film.mp4"
        drafts = [make_draft(tmp_path / f"store-{number}", FILM + bytes([number]) * 9) for number in range(6)]
        pids = []
        for draft in drafts:
            pid = os.fork()
            if pid == 0:
                try:
                    LocalFolder(film).publish(draft)
                finally:
                    os._exit(sys.exc_info()[0] is not None)
            pids.append(pid)
        seen_cut = False
        while pids:
            pids = [pid for pid in pids if not os.waitpid(pid, os.WNOHANG)[0]]
            seen_cut |= film.exists() and film.stat().st_size != len(FILM) + 9
        assert not seen_cut
        assert film.read_bytes()[:-9] == FILM

    def test_a_full_disk_leaves_the_old_film_and_nothing_half(self, draft: Path, small_disk: Path):
        film = small_disk / "film.mp4"
        film.write_bytes(b"old")
        with pytest.raises(StorageFullError, match="publish"):
            LocalFolder(film).publish(draft)
        assert film.read_bytes() == b"old"
        assert not (small_disk / ".film.mp4.part").exists()
        assert draft.exists()


class TestPrevious:
    """Only a film of ours may be replaced unasked: nobody loses a file that fanreel did not make."""

    FOREIGN = "is a file that fanreel did not make"

    @pytest.fixture
    def film(self, rendered: tuple[FilmPlan, FilmPlan], host: Host, tmp_path: Path) -> Path:
        """A film of ours, in a folder of this test."""
        return Path(join_film(rendered[0], host=host, folder=tmp_path).path)

    def refused(self, film: Path, *, overwrite: bool = False) -> str:
        """Return why the place is refused, before a film is made; empty if it is not."""
        try:
            check_output(str(film), overwrite=overwrite, settings=Settings(store=film.parent / "store"))
        except OutputExistsError as error:
            return str(error)
        return ""

    def test_a_film_of_ours_is_known_by_its_certificate(self, film: Path, rendered: tuple[FilmPlan, FilmPlan]):
        previous = LocalFolder(film).previous()
        assert previous is not None
        assert previous.is_ours
        assert previous.identity is not None
        assert previous.identity.plan == plan_digest(rendered[0])
        assert str(previous) == f"the film of {shown_time(film)}, 8.00 s long"
        assert self.refused(film) == ""

    def test_what_another_tool_put_there_is_refused(self, film: Path):
        """Also beside the certificate of the film that it took the place of, and where it is a film itself."""
        remuxed = film.with_name("remuxed.mp4")
        with av.open(str(film)) as source, av.open(str(remuxed), "w") as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
        remuxed.replace(film)
        assert certificate_path(film).exists()
        assert self.FOREIGN in self.refused(film)
        assert "`overwrite: true`" in self.refused(film)
        assert self.refused(film, overwrite=True) == ""

    @pytest.mark.parametrize("content", [b"x", b"no film" * 1000, bytes(100_000)])
    def test_what_is_no_film_is_refused(self, film: Path, content: bytes):
        film.write_bytes(content)
        assert f"({len(content):,} bytes, {shown_time(film)})" in self.refused(film)

    def test_a_film_whose_certificate_is_gone_or_none_is_refused(self, film: Path):
        certificate_path(film).write_bytes(CERTIFICATE)
        assert self.FOREIGN in self.refused(film)
        certificate_path(film).unlink()
        assert self.FOREIGN in self.refused(film)

    def test_a_film_of_ours_stays_ours_while_its_certificate_waits(self, film: Path):
        certificate_path(film).replace(next_certificate_path(film))
        assert self.refused(film) == ""

    def test_a_certificate_of_another_release_counts(self, film: Path):
        values = json.loads(certificate_path(film).read_bytes())
        certificate_path(film).write_text(json.dumps(values | {"version": 99, "segments": [], "more": 1}))
        assert self.refused(film) == ""

    def test_a_damaged_film_of_ours_is_ours(self, film: Path):
        data = bytearray(film.read_bytes())
        data[-100] ^= 1
        film.write_bytes(data)
        assert self.refused(film) == ""
        os.truncate(film, len(data) - 50)
        assert self.refused(film) == ""

    def test_an_empty_file_holds_nothing_to_lose(self, tmp_path: Path):
        (tmp_path / "film.mp4").touch()
        assert self.refused(tmp_path / "film.mp4") == ""

    def test_a_pipe_is_refused_and_not_waited_for(self, tmp_path: Path):
        os.mkfifo(tmp_path / "film.mp4")
        assert self.FOREIGN in self.refused(tmp_path / "film.mp4")

    def test_a_file_that_came_while_the_film_was_made_stays(self, host: Host, rendered: tuple[FilmPlan, FilmPlan]):
        plan = rendered[0]
        film, draft = Path(plan.output), join_film(plan, host=host)
        certificate_path(film).unlink(missing_ok=True)
        film.write_bytes(b"mine")
        with pytest.raises(OutputExistsError, match=self.FOREIGN):
            publish_film(plan, draft, settings=host.settings)
        assert film.read_bytes() == b"mine"
        assert not certificate_path(film).exists()
        allowed = publish_film(replace(plan, overwrite=True), draft, settings=host.settings)
        assert allowed.replaced.startswith("a file that fanreel did not make (4 bytes, ")
        assert verify_film(film).plan == plan_digest(plan)

    def test_the_report_says_which_film_was_replaced(self, host: Host, rendered: tuple[FilmPlan, FilmPlan]):
        film = Path(rendered[0].output)
        shutil.rmtree(film.parent, ignore_errors=True)
        assert publish_film(rendered[0], join_film(rendered[0], host=host), settings=host.settings).replaced == ""
        date = shown_time(film)
        published = publish_film(rendered[1], join_film(rendered[1], host=host), settings=host.settings)
        assert published.replaced == f"the film of {date}, 8.00 s long"
        assert publish_film(rendered[1], join_film(rendered[1], host=host), settings=host.settings).replaced == ""


def shown_time(path: Path) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))


class TestCheck:
    def test_a_folder_that_can_be_made_will_do(self, tmp_path: Path):
        LocalFolder(tmp_path / "a" / "b" / "film.mp4").check()
        assert list(tmp_path.iterdir()) == []

    def test_a_film_that_is_a_folder_is_refused(self, tmp_path: Path):
        (tmp_path / "film.mp4").mkdir()
        with pytest.raises(StorageError, match="is a folder"):
            LocalFolder(tmp_path / "film.mp4").check()

    def test_a_folder_that_is_a_file_is_refused(self, tmp_path: Path):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StorageError, match="cannot be written"):
            LocalFolder(tmp_path / "file" / "film.mp4").check()

    def test_a_name_that_leaves_no_room_for_its_certificate_is_refused(self, tmp_path: Path):
        with pytest.raises(StorageError, match="too long"):
            LocalFolder(tmp_path / ("x" * 240 + ".mp4")).check()
        LocalFolder(tmp_path / ("x" * 200 + ".mp4")).check()

    @as_root
    @pytest.mark.parametrize("mode", [0o755, 0o700, 0o000])
    def test_a_folder_of_someone_else_is_refused(self, open_folder: Path, mode: int):
        (open_folder / "films").mkdir(mode=mode)
        (open_folder / "films").chmod(mode)

        def check() -> None:
            for film in (open_folder / "films" / "film.mp4", open_folder / "films" / "new" / "film.mp4"):
                with pytest.raises(StorageError, match="cannot be written"):
                    LocalFolder(film).check()

        as_nobody(check)

    @as_root
    def test_it_is_refused_before_anything_is_rendered(self, photos: Path, open_folder: Path):
        """The sessions of this user cannot even start: its interpreter is root's."""
        for photo in photos.iterdir():
            shutil.copy(photo, open_folder)
        (open_folder / "films").mkdir()
        store = open_folder / "store"
        store.mkdir()
        store.chmod(0o777)

        def render() -> None:
            host = open_host(Settings(store=store, lock_folder=store / "locks"))
            job = make_job(open_folder, photos=["."], output="films/film.mp4")
            with pytest.raises(StorageError, match="output"):
                render_job(job, host=host, on_order=lambda order: pytest.fail("it was to be rendered"))

        as_nobody(render)
        assert list(store.iterdir()) == []


class TestFilm:
    """With real films: at every moment, a certificate of the film that is there lies beside it."""

    @pytest.fixture
    def plans(self, rendered: tuple[FilmPlan, FilmPlan]) -> tuple[FilmPlan, FilmPlan]:
        """Two films for the same output, neither published."""
        shutil.rmtree(Path(rendered[0].output).parent, ignore_errors=True)
        return rendered

    def published(self, plan: FilmPlan, host: Host) -> Path:
        return Path(publish_film(plan, join_film(plan, host=host), settings=host.settings).film)

    def test_killed_at_any_moment_the_film_is_the_old_or_the_new_one_and_proven(
        self, host: Host, plans: tuple[FilmPlan, FilmPlan]
    ):
        seen = []
        for step in count():
            film = self.published(plans[0], host)
            old = verify_film(film).plan
            draft = join_film(plans[1], host=host)
            killed = killed_at(step, partial(publish_film, plans[1], draft, settings=host.settings))
            seen.append(verify_film(film).plan == old)
            if not killed:
                break
        assert seen == sorted(seen, reverse=True), "the old one, then the new one"
        assert 0 < sum(seen) < len(seen) - 1, "killed before and after the new one was there"
        assert self.published(plans[1], host) == film
        assert not next_certificate_path(film).exists()
        assert verify_film(film, full=True).plan != old

    def test_the_first_film_killed_before_its_certificate_is_named_is_proven(
        self, host: Host, plans: tuple[FilmPlan, FilmPlan]
    ):
        film = self.published(plans[0], host)
        certificate_path(film).replace(next_certificate_path(film))
        verify_film(film)

    def test_damage_is_found_whatever_certificate_waits(self, host: Host, plans: tuple[FilmPlan, FilmPlan]):
        film = self.published(plans[0], host)
        shutil.copy(certificate_path(film), next_certificate_path(film))
        os.truncate(film, film.stat().st_size - 10)
        with pytest.raises(FilmDamagedError):
            verify_film(film)

    def test_publishing_again_what_is_published_changes_nothing(self, host: Host, plans: tuple[FilmPlan, FilmPlan]):
        """As when the task that did it is tried again."""
        draft = join_film(plans[0], host=host)
        film = Path(publish_film(plans[0], draft, settings=host.settings).film)
        written_at = film.stat().st_mtime_ns
        assert publish_film(plans[0], draft, settings=host.settings).film == str(film)
        assert film.stat().st_mtime_ns == written_at

    def test_a_draft_that_is_gone_is_told_if_another_film_is_there(self, host: Host, plans: tuple[FilmPlan, FilmPlan]):
        self.published(plans[0], host)
        gone = replace(join_film(plans[1], host=host), path="/nowhere/draft.mp4")
        with pytest.raises(StorageError, match="publish"):
            publish_film(plans[1], gone, settings=host.settings)

    def test_two_drafts_of_one_film_are_published_one_after_the_other(
        self, host: Host, plans: tuple[FilmPlan, FilmPlan]
    ):
        drafts: list[Draft] = [join_film(plans[0], host=host) for _ in range(2)]
        for draft in drafts:
            publish_film(plans[0], draft, settings=host.settings)
        verify_film(Path(plans[0].output), full=True)

    def test_two_films_published_at_once_under_one_name_never_mix(self, host: Host, plans: tuple[FilmPlan, FilmPlan]):
        for _ in range(12):
            drafts = [(plan, join_film(plan, host=host)) for plan in plans]
            pids = []
            for plan, draft in drafts:
                pid = os.fork()
                if pid == 0:
                    try:
                        publish_film(plan, draft, settings=host.settings)
                    finally:
                        os._exit(sys.exc_info()[0] is not None)
                pids.append(pid)
            statuses = [os.waitpid(pid, 0)[1] for pid in pids]
            assert statuses == [0, 0]
            verify_film(Path(plans[0].output))
            assert not next_certificate_path(Path(plans[0].output)).exists()

    def test_a_film_without_a_certificate_cannot_be_proven(self, host: Host, plans: tuple[FilmPlan, FilmPlan]):
        film = self.published(plans[0], host)
        certificate_path(film).unlink()
        with pytest.raises(StorageError, match="no certificate beside it"):
            verify_film(film)

    def test_a_film_that_is_not_there_is_said_to_be_so(self, tmp_path: Path):
        with pytest.raises(StorageError, match=r"film\.mp4: No such file"):
            verify_film(tmp_path / "film.mp4")
