"""`fanreel store ls | verify | prune`, for both kinds of store."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from blake3 import blake3
from support.jobs import draw_photo
from support.s3_server import Fault, S3Server, serve_s3
from support.stored_segments import Made, make_segment

from fanreel.cli import command as cli
from fanreel.errors import StorageAwayError, StorageError
from fanreel.remote.s3 import S3Uri, parse_s3_uri, s3
from fanreel.render.film_state import begin_film, mark_published, mark_stopped
from fanreel.settings import read_settings
from fanreel.store.check import check_store
from fanreel.store.inventory import Kind, take_inventory
from fanreel.store.local import LocalStore
from fanreel.store.manifest import WORK_SECONDS, FilmManifest
from fanreel.store.open import open_store
from fanreel.store.prune import FRESH_SECONDS, prune_store
from fanreel.store.seals import file_digest
from fanreel.store.segment_store import SegmentStore
from fanreel.store.workspace import DRAFT_SECONDS

DAY = 86_400.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_segment(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serve_s3(tmp_path_factory.mktemp("s3")) as opened:
        yield opened


@dataclass
class Kept:
    """A store whose files the test can make older."""

    store: SegmentStore
    root: Path
    made: Made
    scrap: Path
    uri: S3Uri | None

    def put(self, number: int, *, days: float = 0.0, encoder: str = "x264") -> str:
        """Put a segment of an address of its own, written so long ago; return the address."""
        address = blake3(b"%d" % number).hexdigest()
        self.store.put(replace(self.made.record, address=address, encoder=encoder), self.made.copy(self.scrap))
        self.age("segments", days, of=address)
        return address

    def put_photo(self, seed: int, *, days: float = 0.0) -> str:
        photo = draw_photo(self.scrap / f"{seed}.jpg", seed=seed, size=(64, 48))
        digest = file_digest(photo)
        self.store.put_photo(digest, photo)
        self.age("photos", days, of=digest)
        return digest

    def put_film(self, *segments: str, days: float, photos: tuple[str, ...] = (), published: bool = False) -> str:
        """Note a film that was begun so long ago, and published at once if it was; return its plan's address."""
        begun_at = time.time() - days * DAY
        plan = blake3(repr(segments).encode()).hexdigest()
        output = "/films/a.mp4"
        self.store.put_manifest(
            FilmManifest(plan, "a.mp4", output, segments, photos, begun_at, begun_at if published else 0.0)
        )
        self.age("films", days, of=plan)
        return plan

    def age(self, folder: str, days: float, *, of: str = "") -> None:
        """Make files look written so long ago."""
        for path in (self.root / folder).rglob(f"{of}*"):
            if path.is_file():
                os.utime(path, (time.time() - days * DAY,) * 2)

    def there(self) -> set[str]:
        """Return the addresses of segments of which there is a film or a record."""
        return {file.name.rpartition("/")[2].split(".")[0] for file in self.store.files.list("segments")}

    def spoil(self, name: str, content: bytes | None = None) -> None:
        """Flip a bit of a file, or have it hold something else."""
        path = self.root / name
        spoiled = bytearray(path.read_bytes())
        spoiled[len(spoiled) // 2] ^= 1
        data = bytes(spoiled) if content is None else content
        if self.uri is None:
            path.write_bytes(data)
        else:
            s3().write(data, self.uri / name, content_type="video/mp4")


@pytest.fixture(params=["local", "s3"])
def kept(
    request: pytest.FixtureRequest, server: S3Server, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Kept]:
    workspace, uri = tmp_path / "store", None
    if request.param == "local":
        monkeypatch.setenv("FANREEL_STORE", str(workspace))
        root = workspace
    else:
        server.use(monkeypatch)
        uri = parse_s3_uri(f"s3://films/{tmp_path.name}")
        monkeypatch.setenv("FANREEL_STORE", str(uri))
        monkeypatch.setenv("FANREEL_WORKSPACE", str(workspace))
        root = server.bucket / tmp_path.name
    yield Kept(open_store(read_settings()), root, made, tmp_path / "store", uri)
    server.heal()


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run `fanreel store`; return its exit code and what it said."""
    code = cli.main(["store", *arguments])
    said = capsys.readouterr()
    return code, said.out + said.err


class TestList:
    def test_an_empty_store(self, kept: Kept, capsys: pytest.CaptureFixture[str]):
        code, said = run(capsys, "ls")
        assert code == 0
        assert str(kept.store.files) in said
        assert re.search(r"segments +0 +0 bytes", said)
        assert "0 in work, 0 stopped, 0 published, 0 given up" in said

    def test_films_with_what_they_have_and_what_became_of_them(
        self, kept: Kept, made: Made, capsys: pytest.CaptureFixture[str]
    ):
        first, second = kept.put(1), kept.put(2)
        kept.put_photo(1)
        kept.put_film(first, second, days=1, published=True)
        kept.put_film(first, "f" * 64, days=2)
        kept.put_film("e" * 64, days=WORK_SECONDS / DAY + 1)
        kept.store.put_plan(made.plan)
        code, said = run(capsys, "ls")
        assert code == 0
        films = [line for line in said.splitlines() if "a.mp4" in line]
        assert [re.search(r"\d of \d", line)[0] for line in films] == ["2 of 2", "1 of 2", "0 of 1"]  # type: ignore
        assert ["published" in films[0], "in work" in films[1], "given up" in films[2]] == [True] * 3
        size_bytes = 2 * (made.path.stat().st_size + record_bytes(kept, first))
        assert re.search(rf"segments +2 +{size_bytes / 1000:.1f} kB", said)
        assert re.search(r"photos +1 ", said)
        assert re.search(r"plans +1 ", said)
        assert "1 in work, 0 stopped, 1 published, 1 given up" in said

    def test_a_real_film_from_begin_to_published(self, kept: Kept, made: Made, capsys: pytest.CaptureFixture[str]):
        begin_film(kept.store, made.plan)
        assert re.search(r"film\.mp4 +0 of 1 segment +in work, begun 2", run(capsys, "ls")[1])
        mark_stopped(kept.store, made.plan)
        said = run(capsys, "ls")[1]
        assert re.search(r"film\.mp4 +0 of 1 segment +stopped 2", said)
        assert "0 in work, 1 stopped, 0 published, 0 given up" in said
        begin_film(kept.store, made.plan)
        assert "in work, begun 2" in run(capsys, "ls")[1]
        kept.store.put(made.record, made.copy(kept.scrap))
        mark_published(kept.store, made.plan)
        assert re.search(r"film\.mp4 +1 of 1 segment +published 2", run(capsys, "ls")[1])

    def test_files_that_are_not_ours_are_left_alone(self, kept: Kept, capsys: pytest.CaptureFixture[str]):
        for name in ("segments/aa/notes.txt", "films/other.mp4", "plans/README", "segments/segments/aa/x.mp4"):
            path = kept.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"mine")
        kept.age("", 1000)
        assert take_inventory(kept.store.files).items == ()
        assert run(capsys, "prune", "--older-than", "1s", "--max-size", "0")[0] == 0
        assert sum(path.is_file() for path in kept.root.rglob("*") if path.name != ".lock") == 4


def record_bytes(kept: Kept, address: str) -> int:
    (record,) = (kept.root / "segments").rglob(f"{address}*.json")
    return record.stat().st_size


class TestVerify:
    def test_a_sound_store(self, kept: Kept, made: Made, capsys: pytest.CaptureFixture[str]):
        for number in range(3):
            kept.put(number)
        kept.put_photo(1)
        kept.store.put_plan(made.plan)
        begin_film(kept.store, made.plan)
        code, said = run(capsys, "verify")
        assert code == 0
        assert "6 items" in said
        assert "0 damaged" in said

    def test_everything_that_is_damaged_is_named_and_discarded_on_request(
        self, kept: Kept, made: Made, capsys: pytest.CaptureFixture[str]
    ):
        whole, film, record, headless = (kept.put(number) for number in range(4))
        photo, good_photo = kept.put_photo(1), kept.put_photo(2)
        plan = kept.store.put_plan(made.plan)
        begin_film(kept.store, made.plan)
        names = {file.name.rpartition("/")[2].split(".")[0]: [] for file in kept.store.files.list()}
        for file in kept.store.files.list():
            names[file.name.rpartition("/")[2].split(".")[0]].append(file.name)
        (film_name,) = (name for name in names[film] if name.endswith(".mp4"))
        (record_name,) = (name for name in names[record] if name.endswith(".json"))
        kept.spoil(film_name)
        kept.spoil(record_name)
        kept.store.files.remove(*(name for name in names[headless] if name.endswith(".mp4")))
        kept.spoil(f"photos/{photo[:2]}/{photo}")
        kept.spoil(f"plans/{plan}.json")
        kept.spoil(f"films/{plan}.json", b"{}")
        code, said = run(capsys, "verify")
        assert code == 6
        lines = {line.partition(":")[0]: line.partition(": ")[2] for line in said.splitlines()}
        stem = film_name.rpartition("/")[2].split(".")[0]
        assert "holds other bytes" in next(text for name, text in lines.items() if stem in name)
        assert "holds other bytes than were written" in lines[record_name]
        assert "video is missing" in next(text for name, text in lines.items() if headless in name)
        assert "than its name says" in lines[f"photos/{photo[:2]}/{photo}"]
        assert "than its name says" in lines[f"plans/{plan}.json"]
        assert "is damaged" in lines[f"films/{plan}.json"]
        assert "6 damaged" in said
        assert run(capsys, "verify")[0] == 6, "without --discard nothing was removed"
        code, said = run(capsys, "verify", "--discard")
        assert code == 6
        assert "6 removed" in said
        assert run(capsys, "verify")[0] == 0
        assert kept.there() == {whole}
        assert kept.store.local_photo(good_photo) is not None
        assert kept.put(1) == film
        assert kept.store.find_listed(film) is not None

    @pytest.mark.parametrize("how", ["cut", "grow", "other"])
    def test_a_film_of_another_length_or_of_another_segment(self, kept: Kept, how: str):
        address = kept.put(1)
        (name,) = (file.name for file in kept.store.files.list("segments") if file.name.endswith(".mp4"))
        content = (kept.root / name).read_bytes()
        kept.spoil(name, {"cut": content[:-1], "grow": content + b"x", "other": bytes(len(content))}[how])
        (damaged,) = check_store(kept.store.files).damaged
        assert damaged.item.digest == address

    def test_what_is_pruned_while_it_is_verified_is_no_damage(self, kept: Kept, monkeypatch: pytest.MonkeyPatch):
        kept.put(1)
        files = kept.store.files
        listed = list(files.list())
        files.remove(*(file.name for file in listed))
        monkeypatch.setattr(type(files), "list", lambda self, *folders: iter(() if folders else listed))
        checked = check_store(files)
        assert (checked.item_count, checked.damaged) == (1, ())


class TestPrune:
    def test_what_was_not_used_for_so_long_goes(self, kept: Kept, capsys: pytest.CaptureFixture[str]):
        old, new = kept.put(1, days=31), kept.put(2, days=29)
        old_photo, new_photo = kept.put_photo(1, days=31), kept.put_photo(2, days=29)
        code, said = run(capsys, "prune", "--older-than", "30d")
        assert code == 0
        assert "2 items removed" in said
        assert kept.there() == {new}
        assert kept.store.find_listed(old) is None
        assert kept.store.local_photo(new_photo) is not None
        shutil.rmtree(kept.scrap / "fetched", ignore_errors=True)
        assert kept.store.local_photo(old_photo) is None

    def test_a_film_begun_since_is_a_use_of_what_it_names(self, kept: Kept):
        used, unused = kept.put(1, days=90), kept.put(2, days=90)
        photo = kept.put_photo(1, days=90)
        kept.put_film(used, days=20, photos=(photo,), published=True)
        pruned = prune_store(kept.store.files, older_seconds=30 * DAY)
        assert [item.digest for item in pruned.removed] == [unused]
        assert kept.there() == {used}

    def test_what_a_film_in_work_needs_stays_whatever_is_asked(self, kept: Kept, made: Made):
        pinned, other = kept.put(1, days=90), kept.put(2, days=90)
        photo = kept.put_photo(1, days=90)
        kept.put_film(pinned, days=6.9, photos=(photo,))
        pruned = prune_store(kept.store.files, older_seconds=60, max_bytes=0)
        assert {item.digest for item in pruned.removed} == {other}
        assert kept.there() == {pinned}
        assert kept.store.local_photo(photo) is not None
        assert pruned.over_bytes == pruned.kept_bytes > made.path.stat().st_size

    def test_a_film_that_was_given_up_pins_nothing_and_goes(self, kept: Kept):
        address = kept.put(1, days=90)
        kept.put_film(address, days=7.1)
        pruned = prune_store(kept.store.files, max_bytes=0)
        assert {item.kind for item in pruned.removed} == {Kind.MANIFEST, Kind.SEGMENT}
        assert list(kept.store.files.list()) == []

    def test_the_least_recently_used_go_until_the_rest_is_small_enough(self, kept: Kept, made: Made):
        addresses = [kept.put(number, days=10 - number) for number in range(5)]
        kept.put_film(addresses[0], days=1, published=True)
        one = made.path.stat().st_size + record_bytes(kept, addresses[0])
        total = sum(file.size_bytes for file in kept.store.files.list())
        pruned = prune_store(kept.store.files, max_bytes=total - 2 * one)
        assert [item.digest for item in pruned.removed] == addresses[1:3]
        assert kept.there() == {addresses[0], *addresses[3:]}
        assert (pruned.removed_bytes, pruned.kept_bytes, pruned.over_bytes) == (2 * one, total - 2 * one, 0)
        assert prune_store(kept.store.files, max_bytes=total - 2 * one).removed == ()
        pruned = prune_store(kept.store.files, max_bytes=total - 2 * one - 1)
        assert [item.digest for item in pruned.removed] == addresses[3:4]

    def test_what_is_younger_than_an_hour_stays(self, kept: Kept, made: Made):
        young, old = kept.put(1, days=(FRESH_SECONDS - 120) / DAY), kept.put(2, days=(FRESH_SECONDS + 120) / DAY)
        pruned = prune_store(kept.store.files, older_seconds=1, max_bytes=0)
        assert [item.digest for item in pruned.removed] == [old]
        assert kept.there() == {young}
        assert pruned.over_bytes > 0

    def test_a_dry_run_says_it_and_removes_nothing(self, kept: Kept, capsys: pytest.CaptureFixture[str]):
        address = kept.put(1, days=31)
        before = sorted(file.name for file in kept.store.files.list())
        code, said = run(capsys, "prune", "--older-than", "30d", "--dry-run")
        assert code == 0
        assert address in said
        assert "1 items would be removed" in said
        assert sorted(file.name for file in kept.store.files.list()) == before

    def test_halves_of_segments_go_unless_they_may_be_in_the_making(self, kept: Kept):
        filmless, recordless, in_work = kept.put(1, days=1), kept.put(2, days=1), kept.put(3)
        for file in list(kept.store.files.list()):
            address, _, suffix = file.name.rpartition("/")[2].partition(".")
            gone = {filmless: "mp4", recordless: "json", in_work: "json"}[address]
            if suffix.endswith(gone):
                kept.store.files.remove(file.name)
        pruned = prune_store(kept.store.files, older_seconds=365 * DAY)
        assert {item.kind for item in pruned.removed} == {Kind.ORPHAN}
        assert kept.there() == {in_work}

    def test_published_films_are_forgotten_when_they_are_old(self, kept: Kept):
        old = kept.put_film("a" * 64, days=31, published=True)
        new = kept.put_film("b" * 64, days=29, published=True)
        assert prune_store(kept.store.files, max_bytes=10**9).removed == ()
        pruned = prune_store(kept.store.files, older_seconds=30 * DAY)
        assert [item.digest for item in pruned.removed] == [old]
        assert kept.store.get_manifest(new) is not None

    def test_the_plan_of_a_film_in_work_stays(self, kept: Kept, made: Made):
        address = kept.store.put_plan(made.plan)
        begin_film(kept.store, made.plan)
        kept.age("plans", 90)
        assert prune_store(kept.store.files, older_seconds=DAY).removed == ()
        mark_published(kept.store, made.plan)
        assert prune_store(kept.store.files, older_seconds=DAY).removed == (), "published just now"
        kept.store.files.remove(f"films/{address}.json")
        assert [item.kind for item in prune_store(kept.store.files, older_seconds=DAY).removed] == [Kind.PLAN]

    def test_a_manifest_that_cannot_be_read_may_pin_anything(self, kept: Kept, capsys: pytest.CaptureFixture[str]):
        address = kept.put(1, days=90)
        plan = kept.put_film(address, days=1)
        kept.spoil(f"films/{plan}.json", b"{}")
        with pytest.raises(StorageError, match=r"cannot be read, so that nothing is removed.*verify --discard"):
            prune_store(kept.store.files, older_seconds=DAY)
        assert kept.there() == {address}
        assert run(capsys, "prune", "--older-than", "1d")[0] == 5
        assert run(capsys, "verify", "--discard")[0] == 6
        assert run(capsys, "prune", "--older-than", "1d")[0] == 0
        assert kept.there() == set()

    @pytest.mark.parametrize(
        "arguments",
        [
            *(["--older-than", text] for text in ("30", "d", "30 d", "-30d", "30y", "1e3d", "", "٣d")),
            *(["--max-size", text] for text in ("G", "200X", "-1G", "1e9", "", "200 G", "1,5G", "I")),
        ],
    )
    def test_a_misspelt_size_or_duration_is_said(self, capsys: pytest.CaptureFixture[str], arguments: list[str]):
        with pytest.raises(SystemExit) as ended:
            cli.main(["store", "prune", "=".join(arguments)])
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert repr(arguments[1]) in said
        assert "such as" in said

    def test_without_a_bound_there_is_nothing_to_go_by(self, kept: Kept, capsys: pytest.CaptureFixture[str]):
        code, said = run(capsys, "prune")
        assert code == 2
        assert "--older-than" in said

    @pytest.mark.parametrize(
        ("text", "size_bytes"),
        [("1000", 1000), ("200G", 200e9), ("1.5T", 1.5e12), ("10mb", 10e6), ("2GiB", 2 * 2**30), ("4k", 4000)],
    )
    def test_sizes(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, size_bytes: float):
        asked = {}
        monkeypatch.setenv("FANREEL_STORE", str(tmp_path))
        monkeypatch.setattr(
            "fanreel.store.prune.prune_store", lambda files, **words: asked.update(words) or prune_store(files, **words)
        )
        assert cli.main(["store", "prune", "--max-size", text, "--older-than", "2w"]) == 0
        assert (asked["max_bytes"], asked["older_seconds"]) == (size_bytes, 14 * DAY)


class TestFolder:
    def test_old_drafts_go(self, tmp_path: Path, made: Made):
        store = LocalStore(tmp_path)
        old, new = store.draft_path(made.plan), store.draft_path(made.plan)
        old.parent.mkdir()
        for draft, seconds in ((old, DRAFT_SECONDS + 60), (new, DRAFT_SECONDS - 60)):
            draft.write_bytes(b"film")
            os.utime(draft, (time.time() - seconds,) * 2)
        pruned = prune_store(store.files, older_seconds=365 * DAY)
        assert [item.kind for item in pruned.removed] == [Kind.DRAFT]
        assert (old.exists(), new.exists()) == (False, True)

    def test_a_store_that_is_not_there_is_empty(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("FANREEL_STORE", str(tmp_path / "nothing"))
        assert cli.main(["store", "ls"]) == 0
        assert cli.main(["store", "verify"]) == 0

    def test_a_store_that_is_a_file_is_one_clear_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ):
        (tmp_path / "store").write_bytes(b"")
        monkeypatch.setenv("FANREEL_STORE", str(tmp_path / "store"))
        assert cli.main(["store", "ls"]) == 5
        assert "could not" in capsys.readouterr().err


class TestS3:
    @pytest.fixture
    def far(self, server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], SegmentStore]:
        server.use(monkeypatch)
        monkeypatch.setenv("FANREEL_STORE", f"s3://films/{tmp_path.name}")

        def on(name: str) -> SegmentStore:
            monkeypatch.setenv("FANREEL_WORKSPACE", str(tmp_path / name))
            return open_store(read_settings())

        return on

    def test_a_store_that_is_away_is_not_called_damaged(
        self, far: Callable[[str], SegmentStore], made: Made, tmp_path: Path, server: S3Server
    ):
        store = far("first")
        store.put(made.record, made.copy(tmp_path / "first"))
        server.fail(Fault(status=500, times=-1, method="GET", part=f"{tmp_path.name}/segments/"))
        try:
            with pytest.raises(StorageAwayError):
                check_store(store.files)
        finally:
            server.heal()
        assert check_store(store.files).damaged == ()

    def test_the_film_of_a_writer_that_lost_a_race_goes_and_the_winner_s_stays(
        self, far: Callable[[str], SegmentStore], made: Made, tmp_path: Path, server: S3Server
    ):
        first = far("first")
        first.put(made.record, made.copy(tmp_path / "first"))
        content = made.path.read_bytes()[:-1] + b"?"
        payload = blake3(content[made.record.payload_offset :]).hexdigest()
        won = replace(made.record, payload_digest=payload)
        folder = f"segments/{won.address[:2]}"
        first.files.remove(f"{folder}/{won.address}.x264.json")
        (tmp_path / "won.mp4").write_bytes(content)
        first.put(won, tmp_path / "won.mp4")
        for path in (server.bucket / tmp_path.name).rglob("*.*"):
            os.utime(path, (time.time() - DAY,) * 2)
        assert run_quietly("verify") == 0
        pruned = prune_store(first.files, older_seconds=30 * DAY)
        assert [(item.kind, len(item.files)) for item in pruned.removed] == [(Kind.ORPHAN, 1)]
        assert far("second").find_verified(made.record.address) == won

    def test_a_tenant_prunes_its_own_only(
        self,
        far: Callable[[str], SegmentStore],
        made: Made,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        server: S3Server,
    ):
        stores = {}
        for tenant in ("anna", "ben"):
            monkeypatch.setenv("FANREEL_TENANT", tenant)
            stores[tenant] = far(tenant)
            stores[tenant].put(made.record, made.copy(tmp_path / "made"))
        for path in (server.bucket / tmp_path.name).rglob("*.*"):
            os.utime(path, (time.time() - DAY,) * 2)
        assert run_quietly("prune", "--max-size", "0") == 0, "as ben"
        assert stores["ben"].find_listed(made.record.address) is None
        assert stores["anna"].find_listed(made.record.address) == made.record
        monkeypatch.delenv("FANREEL_TENANT")
        assert run_quietly("prune", "--max-size", "0") == 0, "as nobody"
        assert stores["anna"].find_listed(made.record.address) == made.record

    def test_uploads_that_never_ended_are_removed_after_a_day(self, far: Callable[[str], SegmentStore], tmp_path: Path):
        uri = parse_s3_uri(f"s3://films/{tmp_path.name}/segments/aa/x.mp4")
        s3()._client().create_multipart_upload(Bucket=uri.bucket, Key=uri.key)
        files = far("first").files
        assert files.sweep(older_seconds=DAY) == 0
        assert files.sweep(older_seconds=-DAY) == 1


def run_quietly(*arguments: str) -> int:
    return cli.main(["store", *arguments])
