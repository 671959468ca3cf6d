"""The store in S3: what it asks of the server, and what is left when something goes wrong half way."""

import contextlib
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3
from support.jobs import draw_photo, make_job
from support.processes import wait_until
from support.s3_server import SECRET_KEY, Fault, S3Server, serve_s3
from support.stored_segments import Made, make_segment

from fanreel.errors import (
    InvalidJobError,
    SegmentDamagedError,
    SegmentMissingError,
    StorageAwayError,
    StorageError,
    StorageFullError,
)
from fanreel.host.host import Host, open_host
from fanreel.plan.film import plan_digest
from fanreel.publish.published import verify_film
from fanreel.remote.s3 import S3, s3
from fanreel.remote.s3_uri import parse_s3_uri
from fanreel.render.film_state import begin_film, mark_published
from fanreel.render.here import render_job
from fanreel.render.order import RenderOrder
from fanreel.settings import Settings
from fanreel.store.open import open_store
from fanreel.store.s3 import S3Store
from fanreel.store.seals import file_digest
from fanreel.store.workspace import BUSY_SECONDS, IDLE_SECONDS, Workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_segment(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serve_s3(tmp_path_factory.mktemp("s3")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def healthy(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server.use(monkeypatch)
    server.requests.clear()
    yield
    server.heal()


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str], S3Store]:
    """Returns the store as the machine of this name has it: its workspace is its own."""

    def open_on(name: str) -> S3Store:
        return S3Store(parse_s3_uri(f"s3://films/{tmp_path.name}"), workspace=Workspace(tmp_path / name))

    return open_on


@pytest.fixture
def store(machine: Callable[[str], S3Store]) -> S3Store:
    return machine("first")


def asked(server: S3Server) -> list[str]:
    """What was asked since the test began: the method and the kind of thing."""
    found = []
    for line in server.requests:
        method, _, path = line.partition(" ")
        kind = re.fullmatch(r"/films/[^/]+/(segments|plans|photos|films)/[^?]*?(\.json|\.mp4)?", path)
        found.append(f"{method} {kind[1]}{kind[2] or ''}" if kind else line)
    server.requests.clear()
    return found


class TestRequests:
    """What a film costs in requests, which are paid for and take a moment each; a LIST is never among them."""

    def test_of_each_step(self, server: S3Server, store: S3Store, made: Made, tmp_path: Path):
        store.find_listed(made.record.address, encoders=("nvenc", "x264"))
        assert asked(server) == ["GET segments.json"] * 2
        store.put(made.record, made.copy(tmp_path))
        assert asked(server) == ["GET segments.json", "PUT segments.mp4", "PUT segments.json"]
        store.find_listed(made.record.address, encoders=("x264",))
        assert asked(server) == ["GET segments.json", "HEAD segments.mp4"]
        store.read_record(made.record.address, encoders=("x264",))
        assert asked(server) == ["GET segments.json"]
        store.local_copy(made.record)
        assert asked(server) == [], "who made it has it"
        store.put_plan(made.plan)
        store.get_plan(plan_digest(made.plan))
        assert asked(server) == ["PUT plans.json", "GET plans.json"]
        begin_film(store, made.plan)
        assert asked(server) == ["PUT films.json"]
        mark_published(store, made.plan)
        assert asked(server) == ["GET films.json", "PUT films.json"]

    def test_another_machine_fetches_a_segment_once(
        self, server: S3Server, machine: Callable[[str], S3Store], made: Made, tmp_path: Path
    ):
        machine("first").put(made.record, made.copy(tmp_path))
        asked(server)
        for _ in range(3):
            assert machine("second").local_copy(made.record).stat().st_size == made.path.stat().st_size
        assert asked(server) == ["GET segments.mp4"]

    def test_a_photo_is_uploaded_once_and_fetched_once_a_machine(
        self, server: S3Server, machine: Callable[[str], S3Store], tmp_path: Path
    ):
        photo = draw_photo(tmp_path / "photo.jpg", seed=1)
        digest = file_digest(photo)
        for name in ("first", "second"):
            machine(name).put_photo(digest, photo)
        assert asked(server) == ["HEAD photos", "PUT photos", "HEAD photos"]
        for _ in range(2):
            assert machine("third").local_photo(digest) is not None
        assert asked(server) == ["GET photos"]

    def test_no_step_of_a_film_lists(self, server: S3Server, store: S3Store, made: Made, tmp_path: Path):
        begin_film(store, made.plan)
        store.put(made.record, made.copy(tmp_path))
        store.discard_if_damaged(made.record)
        store.find_verified(made.record.address)
        mark_published(store, made.plan)
        assert server.requests
        assert not [line for line in server.requests if "list-type" in line]
        assert list(store.files.list())
        assert [line for line in server.requests if "list-type" in line], "or this test sees none"


class TestHalfWay:
    def test_an_upload_that_is_cut_leaves_nothing_visible(
        self, server: S3Server, store: S3Store, made: Made, tmp_path: Path
    ):
        path = made.copy(tmp_path)
        server.fail(Fault(cut=True, times=-1, method="PUT", part="mp4"))
        with pytest.raises(StorageAwayError):
            store.put(made.record, path)
        server.heal()
        assert path.exists(), "it can be put again"
        assert list(store.files.list()) == []
        store.put(made.record, path)
        assert store.find_verified(made.record.address) == made.record

    def test_a_film_whose_record_was_not_written_does_not_exist(
        self, server: S3Server, machine: Callable[[str], S3Store], made: Made, tmp_path: Path
    ):
        server.fail(Fault(status=500, times=-1, method="PUT", part="x264.json"))
        with pytest.raises(StorageAwayError):
            machine("first").put(made.record, made.copy(tmp_path))
        server.heal()
        assert [file.name.rpartition(".")[2] for file in machine("first").files.list()] == ["mp4"]
        for look in (machine("second").find_verified, machine("second").find_listed):
            assert look(made.record.address) is None
        machine("second").put(made.record, made.copy(tmp_path))
        assert machine("first").find_verified(made.record.address) == made.record

    @pytest.mark.parametrize(("method", "part"), [("GET", "x264.json"), ("PUT", ".mp4"), ("PUT", "x264.json")])
    def test_a_process_killed_at_a_request_of_a_put_leaves_nothing_half(
        self,
        server: S3Server,
        machine: Callable[[str], S3Store],
        made: Made,
        tmp_path: Path,
        method: str,
        part: str,
    ):
        """The proxy holds the request, so that the writer is killed exactly there."""
        path = made.copy(tmp_path)
        server.fail(Fault(delay_seconds=3, method=method, part=part, times=-1))
        pid = os.fork()
        if pid == 0:
            try:
                machine("killed").put(made.record, path)
            finally:
                os._exit(1)
        try:
            wait_until(
                lambda: [line for line in server.requests if line.startswith(method) and part in line],
                seconds=60,
                what=f"{method} {part}",
            )
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        server.heal()
        found = machine("second").find_verified(made.record.address)
        # What was sent whole before it was killed may still arrive, and is whole then.
        assert found is None or (found, part) == (made.record, "x264.json")
        machine("second").put(made.record, made.copy(tmp_path))
        assert machine("third").find_verified(made.record.address) == made.record

    def test_two_writers_of_different_encodings_never_mix(
        self, machine: Callable[[str], S3Store], made: Made, tmp_path: Path
    ):
        """Threads decide the bytes: the record of one beside the film of the other could never be joined."""
        content = made.path.read_bytes()

        def put(number: int) -> None:
            altered = content[:-1] + bytes([number])
            payload = blake3(altered[made.record.payload_offset :]).hexdigest()
            path = tmp_path / f"{number}.mp4"
            path.write_bytes(altered)
            machine(str(number)).put(replace(made.record, payload_digest=payload), path)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put, range(16)))
        found = machine("reader").find_verified(made.record.address)
        assert found is not None
        assert machine("reader").local_copy(found).read_bytes()[:-1] == content[:-1]

    def test_a_reader_keeps_its_film_when_another_writer_wins(
        self, machine: Callable[[str], S3Store], made: Made, tmp_path: Path
    ):
        first, second = machine("first"), machine("second")
        first.put(made.record, made.copy(tmp_path))
        read = machine("reader").read_record(made.record.address)
        content = made.path.read_bytes()
        other = replace(
            made.record,
            payload_digest=blake3(content[made.record.payload_offset : -1] + b"?").hexdigest(),
        )
        (tmp_path / "other.mp4").write_bytes(content[:-1] + b"?")
        second.files.remove(f"segments/{read.address[:2]}/{read.address}.x264.json")
        second.put(other, tmp_path / "other.mp4")
        assert machine("reader").read_record(made.record.address) == other
        assert machine("reader").local_copy(read).read_bytes() == content


class TestDamage:
    def spoil(self, server: S3Server, tmp_path: Path, made: Made, change: Callable[[bytearray], object]) -> None:
        """Change a film under its right name, as no one who goes through the store could."""
        (path,) = (server.bucket / tmp_path.name / "segments").rglob("*.mp4")
        content = bytearray(path.read_bytes())
        change(content)
        place = parse_s3_uri(f"s3://films/{path.relative_to(server.bucket)}")
        s3().write(bytes(content), place, content_type="video/mp4")

    def test_a_corrupt_object_under_a_right_name_is_found_discarded_and_made_again(
        self, server: S3Server, machine: Callable[[str], S3Store], made: Made, tmp_path: Path
    ):
        machine("first").put(made.record, made.copy(tmp_path))

        def flip(content: bytearray) -> None:
            content[made.record.payload_offset + 9] ^= 1

        self.spoil(server, tmp_path, made, flip)
        other = machine("second")
        assert other.find_listed(made.record.address) == made.record, "a cheap look does not see it"
        with pytest.raises(SegmentDamagedError, match="holds other bytes"):
            other.local_copy(made.record)
        assert other.find_verified(made.record.address) is None
        assert other.discard_if_damaged(made.record)
        assert list(other.files.list()) == []
        other.put(made.record, made.copy(tmp_path))
        assert machine("third").find_verified(made.record.address) == made.record

    def test_what_is_put_takes_the_place_of_what_is_damaged(
        self, server: S3Server, machine: Callable[[str], S3Store], made: Made, tmp_path: Path
    ):
        machine("first").put(made.record, made.copy(tmp_path))

        def flip(content: bytearray) -> None:
            content[-1] ^= 1

        self.spoil(server, tmp_path, made, flip)
        machine("second").put(made.record, made.copy(tmp_path))
        assert machine("third").find_verified(made.record.address) == made.record

    def test_what_was_fetched_and_goes_bad_here_is_fetched_again(
        self, machine: Callable[[str], S3Store], made: Made, tmp_path: Path
    ):
        machine("first").put(made.record, made.copy(tmp_path))
        other = machine("second")
        path = other.local_copy(made.record)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        assert other.discard_if_damaged(made.record), "then the join is worth another try"
        assert other.find_listed(made.record.address) == made.record, "what is whole there stays"
        assert other.local_copy(made.record).read_bytes() == made.path.read_bytes()
        assert not other.discard_if_damaged(made.record)

    def test_a_damaged_photo_here_is_fetched_again(self, machine: Callable[[str], S3Store], tmp_path: Path):
        photo = draw_photo(tmp_path / "photo.jpg", seed=1)
        digest = file_digest(photo)
        machine("first").put_photo(digest, photo)
        found = machine("second").local_photo(digest)
        assert found is not None
        found.write_bytes(b"spoiled")
        again = machine("second").local_photo(digest)
        assert again is not None
        assert again.read_bytes() == photo.read_bytes()


class TestAway:
    def test_every_step_says_that_the_store_is_away(
        self, server: S3Server, store: S3Store, made: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ):
        photo = draw_photo(tmp_path / "photo.jpg", seed=1)
        server.kill()
        try:
            for ask in (
                lambda: store.find_listed(made.record.address),
                lambda: store.find_verified(made.record.address),
                lambda: store.read_record(made.record.address),
                lambda: store.local_copy(made.record),
                lambda: store.put(made.record, made.copy(tmp_path)),
                lambda: store.discard_if_damaged(made.record),
                lambda: store.put_plan(made.plan),
                lambda: store.get_plan("0" * 64),
                lambda: store.put_photo(file_digest(photo), photo),
                lambda: store.local_photo("0" * 64),
                lambda: begin_film(store, made.plan),
                lambda: list(store.files.list()),
            ):
                with pytest.raises(StorageAwayError):
                    ask()
            with caplog.at_level("WARNING", logger="fanreel.render.film_state"):
                mark_published(store, made.plan)  # the film is there: it does not fail for want of a note
            assert "is published, but what it needed is kept" in caplog.text
        finally:
            server.restart()
        store.put(made.record, made.copy(tmp_path))
        assert store.find_verified(made.record.address) == made.record

    def test_answers_of_503_now_and_then_are_not_even_noticed(
        self, server: S3Server, machine: Callable[[str], S3Store], made: Made, tmp_path: Path
    ):
        server.fail(Fault(status=503, times=-1, every=4), Fault(status=500, times=-1, every=7))
        for encoder in ("nvenc", "x264"):
            record = replace(made.record, encoder=encoder)
            machine("first").put(record, made.copy(tmp_path))
            assert machine("second").find_verified(record.address, encoders=(record.encoder,)) == record

    def test_a_wrong_secret_names_no_key(self, made: Made, machine: Callable, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "marked-wrong-secret")
        monkeypatch.setattr("fanreel.remote.s3._OF_PROCESS", S3())
        with pytest.raises(StorageError, match="check the credentials") as said:
            machine("first").find_listed(made.record.address)
        assert not said.value.transient
        assert "marked" not in str(said.value)
        assert SECRET_KEY not in str(said.value)


class TestTenants:
    def test_what_one_keeps_another_does_not_see(self, server: S3Server, made: Made, tmp_path: Path):
        settings = Settings(store=tmp_path / "work", remote_store=f"s3://films/{tmp_path.name}")
        anna, ben = (open_store(replace(settings, tenant=tenant)) for tenant in ("anna", "ben"))
        anna.put(made.record, made.copy(tmp_path))
        begin_film(anna, made.plan)
        assert anna.find_verified(made.record.address) == made.record
        for store in (ben, open_store(settings)):
            assert store.find_verified(made.record.address) is None
            with pytest.raises(SegmentMissingError):
                store.local_copy(made.record)
            assert store.get_manifest(plan_digest(made.plan)) is None
            assert list(store.files.list()) == []
        folder = server.bucket / tmp_path.name
        assert {path.relative_to(folder).parts[0] for path in folder.rglob("*") if path.is_file()} == {"anna"}
        with anna.scratch() as of_anna, ben.scratch() as of_ben:
            assert "anna" in of_anna.parts
            assert "ben" in of_ben.parts

    def test_of_a_folder_too(self, made: Made, tmp_path: Path):
        settings = Settings(store=tmp_path / "work")
        anna, ben = (open_store(replace(settings, tenant=tenant)) for tenant in ("anna", "ben"))
        anna.put(made.record, made.copy(tmp_path / "work"))
        assert anna.find_verified(made.record.address) == made.record
        assert ben.find_verified(made.record.address) is None
        assert open_store(settings).find_verified(made.record.address) is None
        assert list(open_store(settings).files.list()) == []
        assert anna.local_copy(made.record).is_relative_to(tmp_path / "work" / "tenants" / "anna")

    def test_a_store_that_is_no_place_is_refused(self, tmp_path: Path):
        with pytest.raises(InvalidJobError, match="is not allowed"):
            open_store(Settings(store=tmp_path, remote_store="s3://films/../other"))


class TestWorkspace:
    def age(self, folder: Path, seconds: float) -> None:
        for path in folder.rglob("*.mp4"):
            os.utime(path, (time.time() - seconds,) * 2)

    def test_what_was_fetched_and_not_used_for_hours_is_removed(
        self, machine: Callable[[str], S3Store], made: Made, tmp_path: Path
    ):
        machine("first").put(made.record, made.copy(tmp_path))
        path = machine("second").local_copy(made.record)
        self.age(tmp_path / "second", IDLE_SECONDS + 60)
        machine("second").put(replace(made.record, encoder="nvenc"), made.copy(tmp_path))
        assert not path.exists()
        assert machine("second").local_copy(made.record) == path
        self.age(tmp_path / "second", IDLE_SECONDS - 60)
        machine("second").put(replace(made.record, encoder="x265"), made.copy(tmp_path))
        assert path.exists()

    def test_a_full_disk_makes_room_by_what_was_only_fetched(
        self, made: Made, tmp_path: Path, mount: Callable[[str], Path]
    ):
        size_bytes = made.path.stat().st_size
        place = parse_s3_uri(f"s3://films/{tmp_path.name}")
        writer = S3Store(place, workspace=Workspace(tmp_path / "writer"))
        records = [replace(made.record, encoder=encoder) for encoder in ("x264", "nvenc")]
        for record in records:
            writer.put(record, made.copy(tmp_path))
        disk = mount(f"size={size_bytes * 3 // 2 // 4096 * 4096}")
        store = S3Store(place, workspace=Workspace(disk / "store"))
        first = store.local_copy(records[0])
        with pytest.raises(StorageFullError, match="free some space"):
            store.local_copy(records[1])
        assert first.exists(), "a join may be about to read it"
        self.age(disk, BUSY_SECONDS + 60)
        assert store.local_copy(records[1]).read_bytes() == made.path.read_bytes()
        assert not first.exists()

    def test_a_segment_is_put_though_this_disk_has_no_room_for_a_copy(
        self, machine: Callable[[str], S3Store], made: Made, tmp_path: Path
    ):
        store = machine("first")
        shutil.rmtree(tmp_path / "first", ignore_errors=True)
        (tmp_path / "first").mkdir()
        (tmp_path / "first" / "fetched").write_bytes(b"in the way")
        path = made.copy(tmp_path)
        store.put(made.record, path)
        assert not path.exists()
        assert machine("second").find_verified(made.record.address) == made.record


class TestFilms:
    @pytest.fixture
    def hosts(self, tmp_path: Path) -> Iterator[tuple[Host, Host]]:
        """Two machines that share a store."""
        settings = Settings(
            store=tmp_path / "first", remote_store=f"s3://films/{tmp_path.name}", lock_folder=tmp_path / "locks"
        )
        first = open_host(settings)
        with contextlib.closing(first.launcher):
            yield first, open_host(replace(settings, store=tmp_path / "second"), launcher=first.launcher)

    @pytest.mark.parametrize("is_spoilt", [False, True], ids=["pruned", "spoilt"])
    def test_a_film_made_on_one_machine_is_joined_on_another_though_its_segment_goes_meanwhile(
        self, server: S3Server, hosts: tuple[Host, Host], tmp_path: Path, is_spoilt: bool
    ):
        draw_photo(tmp_path / "photo.jpg", seed=1)
        job = make_job(tmp_path, photos=["photo.jpg"])
        first, second = hosts
        (report,) = render_job(job, host=first)
        assert (report.segments_rendered, report.segments_reused) == (1, 0)
        (report,) = render_job(job, host=second)
        assert (report.segments_rendered, report.segments_reused) == (0, 1)
        orders = []

        def lose(order: RenderOrder) -> None:
            orders.append(order.segment_count)
            if len(orders) > 1:
                return
            shutil.rmtree(tmp_path / "second" / "fetched")
            if is_spoilt:
                (path,) = (server.bucket / tmp_path.name / "segments").rglob("*.mp4")
                path.write_bytes(path.read_bytes()[:-1] + b"?")
            else:
                files = second.store.files
                files.remove(*(file.name for file in files.list("segments")))

        (report,) = render_job(job, host=second, on_order=lose)
        assert orders == [0, 1]
        assert verify_film(Path(job.base) / job.output, full=True).frame_count == 32
        written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert SECRET_KEY.encode() not in written
        assert not list((tmp_path / "second" / "scratch").glob("[!.]*"))
