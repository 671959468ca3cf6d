"""Where segments are kept: one contract for every store, and what a folder adds to it."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from blake3 import blake3
from support.jobs import draw_photo
from support.processes import in_fork, killed_at
from support.s3_server import S3Server, serve_s3
from support.stored_segments import Made, make_segment

from fanreel.errors import (
    PhotoChangedError,
    SegmentDamagedError,
    SegmentMissingError,
    StorageError,
    StorageFullError,
)
from fanreel.plan.film import plan_digest, plan_to_json
from fanreel.remote.s3 import S3Uri, parse_s3_uri, s3
from fanreel.render.film_state import begin_film, mark_published
from fanreel.segments.record import SegmentRecord
from fanreel.settings import Settings
from fanreel.store.local import LocalStore
from fanreel.store.manifest import WORK_SECONDS
from fanreel.store.open import open_store
from fanreel.store.seals import file_digest
from fanreel.store.segment_store import SegmentStore
from fanreel.store.workspace import DRAFT_SECONDS

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_segment(tmp_path_factory.mktemp("made"))


@dataclass(frozen=True)
class Kept:
    """A store, and the files that it keeps, for those who damage them."""

    store: SegmentStore
    root: Path
    fetched: Path
    uri: S3Uri | None = None

    def film(self, record: SegmentRecord) -> str:
        """Return the name of the film that the store itself keeps."""
        folder = self.root / "segments" / record.address[:2]
        (path,) = folder.glob(f"{record.address}.{record.encoder}*.mp4")
        return path.relative_to(self.root).as_posix()

    def record(self, record: SegmentRecord) -> str:
        return f"segments/{record.address[:2]}/{record.address}.{record.encoder}.json"

    def damage(self, name: str, how: Callable[[bytearray], object] | None) -> None:
        """Change the bytes of a file in the store, or remove it."""
        path = self.root / name
        content = bytearray(path.read_bytes())
        if how is None:
            self.store.files.remove(name)
        elif self.uri is None:
            how(content)
            path.write_bytes(content)
        else:
            how(content)
            s3().write(bytes(content), self.uri / name, content_type="video/mp4")
        # What another machine would read.
        shutil.rmtree(self.fetched, ignore_errors=True)


def flip_at(place: int) -> Callable[[bytearray], None]:
    def flip_there(content: bytearray) -> None:
        content[place] ^= 0x10

    return flip_there


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serve_s3(tmp_path_factory.mktemp("s3")) as opened:
        yield opened


# Every implementation of SegmentStore passes the contract below; another one is added here.
@pytest.fixture(params=["local", "s3"])
def kept(request: pytest.FixtureRequest, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    workspace, prefix = tmp_path / "store", tmp_path.name
    if request.param == "local":
        return Kept(open_store(Settings(store=workspace)), workspace, tmp_path / "nothing")
    server.use(monkeypatch)
    store = open_store(Settings(store=workspace, remote_store=f"s3://films/{prefix}"))
    return Kept(store, server.bucket / prefix, workspace / "fetched", parse_s3_uri(f"s3://films/{prefix}"))


@pytest.fixture
def store(kept: Kept) -> SegmentStore:
    return kept.store


@pytest.fixture
def local(made: Made, tmp_path: Path) -> LocalStore:
    """A store that holds the segment."""
    store = LocalStore(tmp_path / "store")
    store.put(made.record, made.copy(tmp_path / "store"))
    return store


@pytest.fixture
def small_disk(mount: Callable[[str], Path]) -> Path:
    """A file system of 256 KiB."""
    return mount("size=256k")


def files_in(root: Path) -> set[str]:
    """The names of all files that are not locks, scratch folders included."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name != ".lock"}


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


class TestContract:
    def test_what_was_put_is_found_whole(self, kept: Kept, store: SegmentStore, made: Made, tmp_path: Path):
        path = made.copy(tmp_path / "store")
        content = path.read_bytes()
        store.put(made.record, path)
        assert not path.exists()
        for _ in range(2):
            for look in (store.find_verified, store.find_listed, store.read_record):
                assert look(made.record.address) == made.record
            assert store.local_copy(made.record).read_bytes() == content
            shutil.rmtree(kept.fetched, ignore_errors=True)

    def test_what_was_never_put_is_not_there(self, store: SegmentStore, made: Made):
        assert store.find_verified(made.record.address) is None
        assert store.find_listed(made.record.address) is None
        with pytest.raises(SegmentMissingError, match=made.record.address[:12]):
            store.read_record(made.record.address)
        with pytest.raises(SegmentMissingError, match=made.record.address[:12]):
            store.local_copy(made.record)

    @pytest.mark.parametrize("damage", ["cut", "flip", "grow", "empty"])
    def test_a_damaged_file_is_refused_and_not_kept(self, store: SegmentStore, made: Made, tmp_path: Path, damage: str):
        path = made.copy(tmp_path / "store")
        size = path.stat().st_size
        match damage:
            case "cut":
                os.truncate(path, size - 1)
            case "flip":
                flip(path, size - 100)
            case "grow":
                os.truncate(path, size + 1)
            case "empty":
                os.truncate(path, 0)
        with pytest.raises(SegmentDamagedError):
            store.put(made.record, path)
        assert store.find_verified(made.record.address) is None

    def test_a_file_that_is_gone_is_a_storage_error(self, store: SegmentStore, made: Made, tmp_path: Path):
        with pytest.raises(StorageError, match="No such file"):
            store.put(made.record, tmp_path / "nothing.mp4")

    def test_put_again_the_first_one_stays(self, store: SegmentStore, made: Made, tmp_path: Path):
        """Another run may be joining it: its record and its film must go on belonging together."""
        store.put(made.record, made.copy(tmp_path / "store"))
        path = made.copy(tmp_path / "store")
        store.put(replace(made.record, event=replace(made.record.event, retries=3)), path)
        assert store.find_verified(made.record.address) == made.record
        assert not path.exists()

    def test_each_encoder_has_a_place_of_its_own(self, store: SegmentStore, made: Made, tmp_path: Path):
        others = replace(made.record, encoder="nvenc")
        store.put(made.record, made.copy(tmp_path / "store"))
        assert store.find_verified(made.record.address, encoders=("nvenc",)) is None
        with pytest.raises(SegmentMissingError):
            store.read_record(made.record.address, encoders=("nvenc",))
        store.put(others, made.copy(tmp_path / "store"))
        for read in (store.find_verified, store.find_listed, store.read_record):
            assert read(made.record.address, encoders=("x264",)) == made.record
            assert read(made.record.address, encoders=("nvenc",)) == others
            assert read(made.record.address, encoders=("x264", "nvenc")) == made.record
            assert read(made.record.address) == others, "NVENC's is the best one"

    def test_only_what_is_not_whole_is_discarded(self, kept: Kept, store: SegmentStore, made: Made, tmp_path: Path):
        others = replace(made.record, encoder="nvenc")
        for record in (made.record, others):
            store.put(record, made.copy(tmp_path / "store"))
        assert not store.discard_if_damaged(others)
        kept.damage(kept.film(others), flip_at(others.payload_offset + 10))
        assert store.read_record(made.record.address) == others, "a look at the record alone does not see it"
        assert store.discard_if_damaged(others)
        assert store.read_record(made.record.address) == made.record
        with pytest.raises(SegmentMissingError):
            store.local_copy(others)
        assert store.discard_if_damaged(others), "done again, it changes nothing"
        store.put(others, made.copy(tmp_path / "store"))
        assert store.find_verified(made.record.address) == others

    def test_what_is_damaged_of_one_encoder_is_taken_from_another(
        self, kept: Kept, store: SegmentStore, made: Made, tmp_path: Path
    ):
        others = replace(made.record, encoder="nvenc")
        for record in (made.record, others):
            store.put(record, made.copy(tmp_path / "store"))
        kept.damage(kept.record(others), flip_at(40))
        for look in (store.find_verified, store.find_listed, store.read_record):
            assert look(made.record.address) == made.record
        with pytest.raises(SegmentDamagedError):
            store.read_record(made.record.address, encoders=("nvenc",))

    def test_many_put_the_same_segment_at_once(self, store: SegmentStore, made: Made, tmp_path: Path):
        def put(number: int) -> None:
            record = replace(made.record, event=replace(made.record.event, retries=number))
            store.put(record, made.copy(tmp_path / "store" / f"of-{number}"))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put, range(32)))
        assert store.find_verified(made.record.address) is not None

    @pytest.mark.parametrize("damage", ["gone", "cut", "grow"])
    def test_a_cheap_look_sees_a_film_that_is_gone_or_of_another_length(
        self, kept: Kept, store: SegmentStore, made: Made, tmp_path: Path, damage: str
    ):
        store.put(made.record, made.copy(tmp_path / "store"))
        ways = {"gone": None, "cut": bytearray.pop, "grow": lambda content: content.append(0)}
        kept.damage(kept.film(made.record), ways[damage])
        assert store.find_listed(made.record.address) is None
        store.put(made.record, made.copy(tmp_path / "store"))
        shutil.rmtree(kept.fetched, ignore_errors=True)
        assert store.find_verified(made.record.address) == made.record

    def test_a_photo_comes_back_whole(self, kept: Kept, store: SegmentStore, tmp_path: Path):
        photo = draw_photo(tmp_path / "photo.jpg", seed=5)
        digest = file_digest(photo)
        assert store.local_photo(digest) is None
        store.put_photo(digest, photo)
        store.put_photo(digest, photo)
        for _ in range(2):
            found = store.local_photo(digest)
            assert found is not None
            assert found.read_bytes() == photo.read_bytes()
            shutil.rmtree(kept.fetched, ignore_errors=True)
        assert photo.exists(), "it is the person's"

    def test_a_photo_that_changed_is_not_kept(self, store: SegmentStore, tmp_path: Path):
        photo = draw_photo(tmp_path / "photo.jpg", seed=5)
        with pytest.raises(PhotoChangedError, match=r"photo\.jpg"):
            store.put_photo("0" * 64, photo)
        assert store.local_photo("0" * 64) is None

    def test_a_damaged_photo_is_removed_so_that_it_is_kept_again(self, kept: Kept, store: SegmentStore, tmp_path: Path):
        photo = draw_photo(tmp_path / "photo.jpg", seed=5)
        digest = file_digest(photo)
        store.put_photo(digest, photo)
        kept.damage(f"photos/{digest[:2]}/{digest}", flip_at(1000))
        assert store.local_photo(digest) is None
        store.put_photo(digest, photo)
        found = store.local_photo(digest)
        assert found is not None
        assert found.read_bytes() == photo.read_bytes()

    @pytest.mark.parametrize("name", ["../../etc/passwd", "..", "", "A" * 64, "0" * 63 + "/"])
    def test_what_is_no_digest_is_part_of_no_path(self, store: SegmentStore, tmp_path: Path, name: str):
        photo = draw_photo(tmp_path / "photo.jpg", seed=5)
        for ask in (store.get_plan, store.local_photo, store.get_manifest, lambda name: store.put_photo(name, photo)):
            with pytest.raises(StorageError, match="no digest"):
                ask(name)

    def test_a_manifest_says_what_a_film_needs_and_when_it_was_published(self, store: SegmentStore, made: Made):
        address = plan_digest(made.plan)
        assert store.get_manifest(address) is None
        begin_film(store, made.plan)
        begun = store.get_manifest(address)
        assert begun is not None
        assert begun.segments == tuple(segment.address for segment in made.plan.segments)
        assert set(begun.photos) == set(made.plan.photo_paths)
        assert (begun.name, begun.output, begun.published_at) == (made.plan.name, made.plan.output, 0)
        assert begun.is_in_work(time.time())
        assert not begun.is_in_work(time.time() + WORK_SECONDS + 1)
        mark_published(store, made.plan)
        published = store.get_manifest(address)
        assert published is not None
        assert published.published_at >= published.begun_at == begun.begun_at
        assert not published.is_in_work(time.time())
        begin_film(store, made.plan)
        again = store.get_manifest(address)
        assert again is not None
        assert again.is_in_work(time.time()), "begun again, it needs everything again"

    @pytest.mark.parametrize("output", ["s3://id:secret@films/a.mp4", "https://id:secret@host/a.mp4?token=secret"])
    def test_a_manifest_holds_no_credentials(self, kept: Kept, store: SegmentStore, made: Made, output: str):
        plan = replace(made.plan, output=output)
        begin_film(store, plan)
        text = (kept.root / "films" / f"{plan_digest(plan)}.json").read_text()
        assert "a.mp4" in text
        assert "secret" not in text

    def test_a_manifest_names_an_output_whose_key_has_a_question_mark(self, store: SegmentStore, made: Made):
        plan = replace(made.plan, output="s3://films/why?/a.mp4")
        begin_film(store, plan)
        begun = store.get_manifest(plan_digest(plan))
        assert begun is not None
        assert begun.output == "s3://films/why?/a.mp4"

    def test_a_damaged_manifest_is_a_storage_error(self, kept: Kept, store: SegmentStore, made: Made):
        begin_film(store, made.plan)
        address = plan_digest(made.plan)
        kept.damage(f"films/{address}.json", bytearray.clear)
        with pytest.raises(StorageError, match=f"manifest of film {address[:12]} is damaged"):
            store.get_manifest(address)

    def test_plans_come_back_equal(self, store: SegmentStore, made: Made):
        address = store.put_plan(made.plan)
        assert store.get_plan(address) == made.plan
        assert store.put_plan(made.plan) == address

    def test_a_plan_that_is_not_there_is_a_storage_error(self, store: SegmentStore):
        with pytest.raises(StorageError, match="plan"):
            store.get_plan("0" * 64)

    def test_every_run_drafts_in_a_place_of_its_own(self, store: SegmentStore, made: Made):
        assert store.draft_path(made.plan) != store.draft_path(made.plan)

    def test_scratch_folders_are_apart_and_gone_afterwards(self, store: SegmentStore):
        with store.scratch() as first, store.scratch() as second:
            (first / "half.mp4").write_bytes(b"half")
            assert first != second
            assert second.is_dir()
        assert not first.exists()
        assert not second.exists()

    def test_a_scratch_folder_is_gone_after_an_error(self, store: SegmentStore):
        with pytest.raises(KeyError), store.scratch() as folder:
            raise KeyError
        assert not folder.exists()


class TestDamage:
    """A segment that is not whole does not exist, whatever happened to it, and can be put again."""

    def break_and_mend(self, local: LocalStore, made: Made, damage: Callable[[Path, Path], object]) -> None:
        film = local.local_copy(made.record)
        damage(film, film.with_suffix(".json"))
        assert local.find_verified(made.record.address) is None
        local.put(made.record, made.copy(local.root))
        assert local.find_verified(made.record.address) == made.record

    def test_a_record_without_a_film(self, local: LocalStore, made: Made):
        self.break_and_mend(local, made, lambda film, record: film.unlink())

    def test_a_film_without_a_record(self, local: LocalStore, made: Made):
        self.break_and_mend(local, made, lambda film, record: record.unlink())

    def test_a_film_cut_short(self, local: LocalStore, made: Made):
        self.break_and_mend(local, made, lambda film, record: os.truncate(film, film.stat().st_size - 1))

    def test_a_film_full_of_zeros_as_after_a_power_failure(self, local: LocalStore, made: Made):
        self.break_and_mend(local, made, lambda film, record: film.write_bytes(bytes(film.stat().st_size)))

    def test_a_flipped_bit_in_the_film(self, local: LocalStore, made: Made):
        self.break_and_mend(local, made, lambda film, record: flip(film, -7))

    @pytest.mark.parametrize("content", [b"", b"{}", b"no JSON", b'{"digest":"', b"\x00" * 4096])
    def test_a_record_that_is_none(self, local: LocalStore, made: Made, content: bytes):
        self.break_and_mend(local, made, lambda film, record: record.write_bytes(content))

    def test_a_flipped_bit_anywhere_in_the_record(self, local: LocalStore, made: Made):
        """Also where the record would still read as one: its fingerprints, its parameter sets."""
        path = local.local_copy(made.record).with_suffix(".json")
        content = path.read_bytes()
        for place in range(0, len(content), 13):
            flip(path, place)
            assert local.find_verified(made.record.address) is None
            path.write_bytes(content)
        assert local.find_verified(made.record.address) == made.record

    def test_a_record_of_another_segment(self, local: LocalStore, made: Made):
        film = local.local_copy(made.record)
        other = "0" * 64
        for path in (film, film.with_suffix(".json")):
            target = path.parents[1] / other[:2] / path.name.replace(made.record.address, other)
            target.parent.mkdir(exist_ok=True)
            shutil.copy(path, target)
        assert local.find_verified(other) is None

    def test_a_stored_record_is_plain_json(self, local: LocalStore, made: Made):
        stored = json.loads(local.local_copy(made.record).with_suffix(".json").read_bytes())
        assert stored["record"]["address"] == made.record.address

    def test_a_damaged_plan_is_refused(self, local: LocalStore, made: Made):
        address = local.put_plan(made.plan)
        flip(local.root / "plans" / f"{address}.json", 20)
        with pytest.raises(StorageError, match="damaged"):
            local.get_plan(address)

    def test_a_plan_of_another_version_is_refused(self, local: LocalStore, made: Made):
        text = plan_to_json(made.plan).replace(b'"session_cap"', b'"sessions"')
        address = blake3(text).hexdigest()
        local.put_plan(made.plan)
        (local.root / "plans" / f"{address}.json").write_bytes(text)
        with pytest.raises(StorageError, match="another version"):
            local.get_plan(address)


class TestScratch:
    def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(self, tmp_path: Path):
        program = (
            "import sys, time\nfrom pathlib import Path\nfrom fanreel.store.local import LocalStore\n"
            "with LocalStore(Path(sys.argv[1])).scratch() as folder:\n"
            "    (folder / 'half.mp4').write_bytes(b'half')\n"
            "    print(folder, flush=True)\n    time.sleep(60)\n"
        )
        owners = [
            subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        try:
            killed, living = (Path(owner.stdout.readline().strip()) for owner in owners if owner.stdout)
            owners[0].kill()
            owners[0].wait()
            with LocalStore(tmp_path).scratch():
                assert not killed.exists()
                assert (living / "half.mp4").exists()
        finally:
            for owner in owners:
                owner.kill()
                owner.communicate()

    def test_one_whose_owner_died_before_it_was_locked_is_removed(self, tmp_path: Path):
        (tmp_path / "scratch" / "unlocked").mkdir(parents=True)
        with LocalStore(tmp_path).scratch():
            assert not (tmp_path / "scratch" / "unlocked").exists()

    def test_many_processes_come_and_go_at_once(self, tmp_path: Path):
        def use() -> None:
            for _ in range(30):
                with LocalStore(tmp_path).scratch() as folder:
                    (folder / "part").write_bytes(b"x")
                    assert (folder / "part").read_bytes() == b"x"

        pids = []
        for _ in range(4):
            pid = os.fork()
            if pid == 0:
                try:
                    use()
                finally:
                    os._exit(sys.exc_info()[0] is not None)
            pids.append(pid)
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0, 0, 0]
        assert files_in(tmp_path) == set()

    def test_drafts_that_nobody_came_for_are_removed_after_a_week(self, tmp_path: Path, made: Made):
        store = LocalStore(tmp_path)
        old, new = store.draft_path(made.plan), store.draft_path(made.plan)
        old.parent.mkdir()
        for draft in (old, new):
            draft.write_bytes(b"film")
        os.utime(old, (time.time() - DRAFT_SECONDS - 60,) * 2)
        store.draft_path(made.plan)
        assert not old.exists()
        assert new.exists()


class TestProcesses:
    def test_two_processes_put_different_encodings_of_one_segment_and_neither_is_mixed(
        self, made: Made, tmp_path: Path
    ):
        """Threads decide the bytes: a record of one run beside the film of another could never be joined."""
        content = made.path.read_bytes()
        payload = content[made.record.payload_offset :]
        versions = []
        for number in range(4):
            altered = payload[:-1] + bytes([number])
            record = replace(made.record, payload_digest=blake3(altered).hexdigest())
            versions.append((record, content[: made.record.payload_offset] + altered))
        for round_number in range(15):
            root = tmp_path / f"store-{round_number}"
            root.mkdir()
            pids = []
            for number, (record, film) in enumerate(versions):
                pid = os.fork()
                if pid == 0:
                    try:
                        path = root / f"{number}.mp4"
                        path.write_bytes(film)
                        LocalStore(root).put(record, path)
                    finally:
                        os._exit(sys.exc_info()[0] is not None)
                pids.append(pid)
            assert not any(os.waitpid(pid, 0)[1] for pid in pids)
            assert LocalStore(root).find_verified(made.record.address) in [record for record, _ in versions]

    def test_killed_at_any_moment_of_a_put_the_segment_is_whole_or_not_there(self, made: Made, tmp_path: Path):
        found = []
        killed = True
        while killed:
            store = LocalStore(tmp_path / f"store-{len(found)}")
            killed = killed_at(len(found), partial(store.put, made.record, made.copy(store.root)))
            found.append(store.find_verified(made.record.address))
            assert found[-1] in (None, made.record)
            store.put(made.record, made.copy(store.root))
            assert store.find_verified(made.record.address) == made.record
            with store.scratch():
                pass
            assert not any((store.root / "scratch").glob("[!.]*"))
        assert found[0] is None
        assert found[-1] == found[-2] == made.record, "killed after it was there, too"


class TestFull:
    def test_a_full_disk_is_one_clear_error_and_no_half_segment(self, made: Made, small_disk: Path):
        store = LocalStore(small_disk / "store")
        path = made.copy(store.root)
        while True:
            try:
                with (small_disk / "ballast").open("ab", buffering=0) as ballast:
                    ballast.write(bytes(1024))
            except OSError:
                break
        with pytest.raises(StorageFullError, match=r"free some space and run the same command again$"):
            store.put(made.record, path)
        assert store.find_verified(made.record.address) is None
        assert {name for name in files_in(store.root) if name != "made.mp4"} == set()
        (small_disk / "ballast").unlink()
        store.put(made.record, made.copy(store.root))
        assert store.find_verified(made.record.address) == made.record

    def test_a_plan_on_a_full_disk_is_not_half_there(self, made: Made, small_disk: Path):
        (small_disk / "ballast").write_bytes(bytes((256 - 8) << 10))
        with pytest.raises(StorageFullError):
            LocalStore(small_disk / "store").put_plan(replace(made.plan, name="x" * 200_000))
        assert files_in(small_disk) == {"ballast"}

    def test_a_record_that_cannot_be_written_takes_its_film_along(self, made: Made, tmp_path: Path):
        store = LocalStore(tmp_path / "store")
        path = made.copy(store.root)

        def put() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
            with pytest.raises(StorageError, match="File too large"):
                store.put(made.record, path)

        in_fork(put)
        assert files_in(store.root) == set()


@as_root
class TestRights:
    def test_a_store_that_may_not_be_written_is_one_clear_error(self, made: Made, open_folder: Path):
        store = LocalStore(open_folder / "store")
        store.put(made.record, made.copy(store.root))

        def use() -> None:
            assert store.find_verified(made.record.address) == made.record
            with pytest.raises(StorageError, match="Permission denied"), store.scratch():
                pass
            with pytest.raises(StorageError, match="Permission denied"):
                store.put_plan(made.plan)

        in_fork(use, uid=NOBODY)

    def test_a_store_that_may_not_be_read_is_one_clear_error(self, made: Made, open_folder: Path):
        store = LocalStore(open_folder / "store")
        store.put(made.record, made.copy(store.root))
        store.root.chmod(0o700)

        def use() -> None:
            for ask in (store.find_verified, store.read_record):
                with pytest.raises(StorageError, match="Permission denied"):
                    ask(made.record.address)
            with pytest.raises(StorageError, match="Permission denied"):
                store.local_copy(made.record)

        in_fork(use, uid=NOBODY)

    def test_a_store_that_is_a_file_is_one_clear_error(self, made: Made, tmp_path: Path):
        (tmp_path / "store").write_bytes(b"")
        store = LocalStore(tmp_path / "store")
        with pytest.raises(StorageError, match="read the store"):
            store.find_verified(made.record.address)
        with pytest.raises(StorageError, match="FANREEL_STORE names another"), store.scratch():
            pass
