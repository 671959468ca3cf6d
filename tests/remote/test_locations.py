"""Roots: nothing that a job says reads or publishes outside of what its host allows."""

import os
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.jobs import draw_photo, make_job

from fanreel.errors import FanreelError, InvalidJobError, NotAllowedError, PhotoChangedError, PhotoNotFoundError
from fanreel.host.host import Host, open_host
from fanreel.intake.photo_sharing import localize_photos, share_photos
from fanreel.intake.sources import fetch_stills, output_location
from fanreel.job.parse import parse_job
from fanreel.plan.film import FilmPlan
from fanreel.publish.open import open_destination
from fanreel.remote.locations import check_allowed, scheme_of, shown_location
from fanreel.render.draft import join_film, publish_film
from fanreel.render.here import plan_job, render_job
from fanreel.sessions.launcher import Launcher
from fanreel.settings import Settings, read_settings
from fanreel.store.local import LocalStore


def allowed(location: str, *roots: str) -> bool:
    try:
        check_allowed(location, settings=Settings(store=Path("/nowhere"), roots=roots))
    except NotAllowedError:
        return False
    return True


class TestPaths:
    @pytest.fixture
    def base(self, tmp_path: Path) -> Path:
        """`in`, which is allowed, beside `in-other` and `out`, which are not; links from one to the other."""
        for name in ("in/deep", "in-other", "out"):
            (tmp_path / name).mkdir(parents=True)
        for name in ("in/a.png", "in/deep/b.png", "in-other/c.png", "out/secret.png"):
            Image.new("RGB", (8, 6), (len(name), 2, 3)).save(tmp_path / name)
        (tmp_path / "in" / "leak.png").symlink_to(tmp_path / "out" / "secret.png")
        (tmp_path / "in" / "door").symlink_to(tmp_path / "out")
        (tmp_path / "in" / "short.png").symlink_to("deep/b.png")
        (tmp_path / "in" / "loop").symlink_to("loop")
        (tmp_path / "link-to-in").symlink_to("in")
        return tmp_path

    @pytest.mark.parametrize("name", ["in", "in/a.png", "in/deep/../a.png", "in/short.png", "in/new/film.mp4"])
    def test_inside(self, base: Path, name: str):
        assert allowed(f"{base}/{name}", str(base / "in"))
        assert allowed(f"{base}/{name}", "s3://bucket", "/elsewhere", str(base / "link-to-in"))

    @pytest.mark.parametrize(
        "name",
        [
            *("", "out", "out/secret.png", "in-other", "in-other/c.png", "in/../out/secret.png", "in/../in-other"),
            *("in/leak.png", "in/door", "in/door/secret.png", "in/door/new.mp4", "in/a\0.png", "i"),
            *("in/deep/../../out/secret.png", "in/./../out", "IN/a.png", "in/door/../in-other/c.png"),
        ],
    )
    def test_outside(self, base: Path, name: str):
        assert not allowed(f"{base}/{name}", str(base / "in"))

    @pytest.mark.parametrize("name", ["/etc/passwd", "/proc/self/environ", "/dev/stdin", "/", "//etc/passwd"])
    def test_the_system_s_own_files(self, base: Path, name: str):
        assert not allowed(name, str(base / "in"))

    def test_without_roots_all_is_allowed(self, base: Path):
        assert allowed(f"{base}/out/secret.png")
        assert allowed("s3://bucket/key")

    def test_roots_in_s3_alone_allow_no_path(self, base: Path):
        assert not allowed(f"{base}/in/a.png", "s3://bucket")

    def test_a_loop_of_links_leads_nowhere(self, base: Path):
        assert allowed(f"{base}/in/loop", str(base / "in"))

    def settings(self, base: Path) -> Settings:
        return Settings(store=base / "store", roots=(str(base / "in"),))

    @pytest.mark.parametrize(
        "entry",
        [
            *("../out/secret.png", "../out", "../out/*.png", "../out/../out/*", "door", "door/*", "door/secret.png"),
            *("leak.png", "*.png", "le*", "d*/secret.png", "**/secret.png", "/etc/passwd", "/etc/*", "~root/*"),
            *(
                "{base}/out/secret.png",
                "{base}/in-other/c.png",
                "{base}/in/../out/*",
                "*/../../out/*",
                "deep/../../out/*",
            ),
            *("door/../out/secret.png", "../*/*.png", "*/../*.png", "../gone.png", "/gone/gone.png"),
        ],
    )
    @pytest.mark.parametrize("on_bad_photo", ["fail", "skip"])
    def test_no_entry_of_a_job_leads_outside(self, base: Path, entry: str, on_bad_photo: str):
        name = entry.format(base=base)
        job = make_job(base / "in", photos=["a.png", name], on_bad_photo=on_bad_photo)
        with pytest.raises(NotAllowedError) as caught:
            fetch_stills(job, settings=self.settings(base))
        if "out/secret" not in name:
            assert "out/secret" not in str(caught.value)

    @pytest.mark.parametrize("name", ["../out/secret.png", "leak.png", "door/secret.png", "/etc/passwd", "../out"])
    def test_no_slide_leads_outside(self, base: Path, name: str):
        job = make_job(base / "in", photos=[], slides=[{"photo": "a.png"}, {"photo": name}], on_bad_photo="skip")
        with pytest.raises(NotAllowedError):
            fetch_stills(job, settings=self.settings(base))

    @pytest.mark.parametrize(
        "name", ["%2e%2e/out/secret.png", "..%2fout/secret.png", "..\\out\\secret.png", "\u2024\u2024/out"]
    )
    def test_letters_that_look_like_steps_are_letters(self, base: Path, name: str):
        with pytest.raises(PhotoNotFoundError, match="no such file"):
            fetch_stills(make_job(base / "in", photos=[name]), settings=self.settings(base))

    def test_a_step_back_through_a_link_is_no_way_to_look_outside(self, base: Path):
        """The kernel goes back from where the link leads; a name made plain first goes back from the link."""
        (base / "out" / "back").symlink_to(base / "in" / "deep")
        with pytest.raises(NotAllowedError) as caught:
            fetch_stills(make_job(base / "in", photos=[f"{base}/out/back/../../out"]), settings=self.settings(base))
        assert "secret" not in str(caught.value)
        (base / "out" / "album").mkdir()
        Image.new("RGB", (8, 6)).save(base / "out" / "album" / "hidden.png")
        (base / "in" / "album").mkdir()
        with pytest.raises(NotAllowedError) as caught:
            fetch_stills(make_job(base / "in", photos=[f"{base}/out/back/../album"]), settings=self.settings(base))
        assert "hidden" not in str(caught.value)

    def test_whether_something_is_outside_cannot_be_told(self, base: Path):
        told = set()
        for name in ("../out/secret.png", "../out/gone.png", "../out/*.png", "../out/*.gone"):
            with pytest.raises(NotAllowedError) as caught:
                fetch_stills(make_job(base / "in", photos=[name]), settings=self.settings(base))
            told.add(str(caught.value).replace("photos: ", "").partition(": ")[2])
        assert len(told) == 1

    def test_what_is_inside_is_read(self, base: Path):
        job = make_job(base / "in", photos=["a.png", "deep", "deep/*.png", "short.png", f"{base}/in/deep/../a.png"])
        stills = fetch_stills(job, settings=self.settings(base)).stills
        assert [Path(still.source.path).name for still in stills] == ["a.png", "b.png", "b.png", "short.png", "a.png"]

    @pytest.mark.parametrize(
        "output",
        [
            "../out/film.mp4",
            "door/film.mp4",
            "/film.mp4",
            "../in-other/",
            "door/",
            "..",
            "new/../../film.mp4",
            "../in.mp4",
        ],
    )
    def test_no_film_is_published_outside(self, base: Path, output: str):
        with pytest.raises(NotAllowedError):
            output_location(make_job(base / "in", output=output), settings=self.settings(base))

    def test_a_film_that_is_a_link_to_the_outside_is_not_replaced(self, base: Path):
        (base / "in" / "film.mp4").symlink_to(base / "out" / "film.mp4")
        with pytest.raises(NotAllowedError):
            output_location(make_job(base / "in", output="film.mp4"), settings=self.settings(base))

    def test_a_film_inside(self, base: Path):
        for output in ("film.mp4", "new/deeper/film.mp4", "deep/"):
            location = output_location(make_job(base / "in", output=output), settings=self.settings(base))
            assert Path(location).is_relative_to(base / "in")

    @given(st.lists(st.sampled_from(["..", ".", "in", "out", "door", "deep", "a.png", "secret.png", "", "*"])))
    def test_no_path_of_any_parts_opens_what_is_outside(
        self, tmp_path_factory: pytest.TempPathFactory, parts: list[str]
    ):
        """What is allowed lies inside by the kernel's own account."""
        base = tmp_path_factory.getbasetemp() / "any"
        if not base.exists():
            (base / "in" / "deep").mkdir(parents=True)
            (base / "out").mkdir()
            (base / "out" / "secret.png").touch()
            (base / "in" / "door").symlink_to("../out")
        path = "/".join([str(base / "in"), *parts])
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_PATH)
        except OSError:
            return
        try:
            real = Path(f"/proc/self/fd/{descriptor}").readlink()
        finally:
            os.close(descriptor)
        assert allowed(path, str(base / "in")) == real.is_relative_to(base / "in")


class TestS3Uris:
    ROOT = "s3://bucket/tenants/acme"

    @pytest.mark.parametrize(
        "location",
        [
            *("s3://bucket/tenants/acme/a.jpg", "s3://bucket/tenants/acme/deep/er/", "s3://bucket/tenants/acme/"),
            *("s3://bucket/tenants/acme/%2e%2e/a.jpg", "s3://bucket/tenants/acme/a?b#c.jpg"),
        ],
    )
    def test_inside(self, location: str):
        assert allowed(location, self.ROOT)
        assert allowed(location, "/srv", "s3://other", "s3://bucket")

    @pytest.mark.parametrize(
        "location",
        [
            *("s3://bucket/tenants/acme", "s3://bucket/tenants/acme2/a.jpg", "s3://bucket/tenants/acme-2/"),
            *("s3://bucket/tenants/acm/a.jpg", "s3://bucket/tenants/", "s3://bucket/", "s3://bucket/tenants/acme.jpg"),
            *("s3://bucket2/tenants/acme/a.jpg", "s3://Bucket/tenants/acme/a.jpg", "s3://bucket/Tenants/acme/a.jpg"),
            *("s3://bucket//tenants/acme/a.jpg", "s3://bucket/tenants//acme/a.jpg", "s3://bucket/tenants/acme//a.jpg"),
            *("s3://bucket/tenants/%61cme/a.jpg", "s3://bucket/tenants%2Facme/a.jpg", "/bucket/tenants/acme/a.jpg"),
        ],
    )
    def test_outside(self, location: str):
        assert not allowed(location, self.ROOT)

    @pytest.mark.parametrize(
        "location",
        [
            *("s3://bucket/tenants/acme/../other/a.jpg", "s3://bucket/tenants/acme/./a.jpg", "s3://bucket/.."),
            *("s3://user@bucket/tenants/acme/a.jpg", "s3:///tenants/acme/a.jpg", "S3://bucket/tenants/acme/a.jpg"),
            *("s3://bucket/tenants/acme/\n", "s3://bucket:80/tenants/acme/a", "s3://../tenants/acme/a.jpg"),
        ],
    )
    def test_what_is_no_s3_uri_is_refused_anyway(self, location: str):
        with pytest.raises((InvalidJobError, NotAllowedError)):
            check_allowed(location, settings=Settings(store=Path("/nowhere"), roots=(self.ROOT,)))

    def test_a_path_alone_allows_no_bucket(self):
        assert not allowed("s3://bucket/a.jpg", "/srv")

    @pytest.mark.parametrize(
        ("output", "wanted"),
        [
            ("s3://bucket/tenants/acme/film.mp4", "s3://bucket/tenants/acme/film.mp4"),
            ("s3://bucket/tenants/acme/trip/", "s3://bucket/tenants/acme/trip/trip.mp4"),
            ("s3://bucket/tenants/acme/", "s3://bucket/tenants/acme/acme.mp4"),
        ],
    )
    def test_films_inside(self, output: str, wanted: str):
        settings = Settings(store=Path("/nowhere"), roots=(self.ROOT,))
        assert output_location(parse_job({"photos": ["/a"], "output": output}), settings=settings) == wanted

    @pytest.mark.parametrize(
        "output",
        [
            *(
                "s3://bucket/tenants/other/film.mp4",
                "s3://bucket/tenants/acme.mp4",
                "s3://bucket/tenants/",
                "s3://bucket",
            ),
            *(
                "s3://bucket/tenants/acme/../film.mp4",
                "s3://bucket2/tenants/acme/film.mp4",
                "s3://bucket/tenants/acme2/",
            ),
            *("s3://bucket/tenants/acme//film.mp4", "/srv/film.mp4", "s3://bucket/tenants/acme"),
        ],
    )
    def test_no_film_outside(self, output: str):
        settings = Settings(store=Path("/nowhere"), roots=(self.ROOT,))
        with pytest.raises((NotAllowedError, InvalidJobError)):
            output_location(parse_job({"photos": ["/a"], "output": output}), settings=settings)

    @pytest.mark.parametrize("output", ["s3://bucket/film.mov", "s3://bucket/film", "s3://bucket/film.mp4.txt"])
    def test_a_film_of_another_kind_is_refused(self, output: str):
        with pytest.raises(InvalidJobError, match=r"a file ending in \.mp4, or a folder ending in /"):
            output_location(parse_job({"photos": ["/a"], "output": output}), settings=Settings(store=Path("/nowhere")))


class TestWebPlaces:
    ROOT = "https://photos.test/acme"

    def test_without_such_a_root_the_web_is_no_place_of_this_host(self):
        assert allowed("https://elsewhere.test/a.jpg", "/srv", "s3://bucket")

    @pytest.mark.parametrize("location", ["https://photos.test/acme/a.jpg", "HTTPS://Photos.test/acme/b/c.jpg?d=../e"])
    def test_inside(self, location: str):
        assert allowed(location, "/srv", self.ROOT)

    @pytest.mark.parametrize(
        "location",
        [
            *("https://photos.test/acme2/a.jpg", "https://photos.test/a.jpg", "http://photos.test/acme/a.jpg"),
            *("https://photos.test:444/acme/a.jpg", "https://photos.test.evil.test/acme/a.jpg"),
            *("https://photos.test@evil.test/acme/a.jpg", "https://photos.test/acme/../other/a.jpg"),
            *("https://photos.test/acme/%2e%2e/other/a.jpg", "https://photos.test/acme/..%2Fother/a.jpg"),
            *(
                "https://photos.test/acme/%5c..%5cother",
                "https://photos.test/acme//evil",
                "https://photos.test/acme\\..\\x",
            ),
        ],
    )
    def test_outside(self, location: str):
        assert not allowed(location, "/srv", self.ROOT)


class TestTenants:
    @pytest.mark.parametrize("tenant", ["acme", "other"])
    def test_a_root_names_the_tenant(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tenant: str):
        monkeypatch.setenv("FANREEL_TENANT", tenant)
        monkeypatch.setenv("FANREEL_ROOTS", f"{tmp_path}/{{tenant}}, s3://bucket/{{tenant}}/")
        settings = read_settings()
        for name in ("acme", "other"):
            for location in (f"{tmp_path}/{name}/a.jpg", f"s3://bucket/{name}/a.jpg"):
                if name == tenant:
                    check_allowed(location, settings=settings)
                else:
                    with pytest.raises(NotAllowedError):
                        check_allowed(location, settings=settings)


@pytest.mark.parametrize(
    ("location", "scheme"),
    [("/a", ""), ("a:b", ""), ("s3://b/c", "s3"), ("HTTP://h", "http"), ("https://h/a", "https")],
)
def test_schemes(location: str, scheme: str):
    assert scheme_of(location) == scheme


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://host/a.jpg?key=1#x", "https://host/a.jpg"),
        ("https://me:pass@host:8/a@b.jpg?c@d", "https://host:8/a@b.jpg"),
        ("https://host?key=/a", "https://host"),
        ("s3://bucket/a?b.jpg", "s3://bucket/a?b.jpg"),
        ("/photos/a?b#c.jpg", "/photos/a?b#c.jpg"),
        ("/photos/new\nline", "/photos/new\\nline"),
    ],
)
def test_what_is_shown_of_a_location(location: str, shown: str):
    assert shown_location(location) == shown


class TestOnAnotherMachine:
    """A plan comes from the store: what it says of locations is believed as little as a job is."""

    @pytest.fixture
    def host(self, host: Host, launcher: Launcher) -> Host:
        """A host of the test's own, whose launcher is warm already."""
        return open_host(host.settings, launcher=launcher)

    @pytest.fixture
    def plan(self, host: Host, photos: Path) -> FilmPlan:
        (plan,) = plan_job(make_job(photos.parent, seconds_per_slide=1), host=host)
        return plan

    def other(self, host: Host, launcher: Launcher, tmp_path: Path, *roots: str) -> Host:
        """A host with the same store that may read only from `roots`."""
        return open_host(
            Settings(store=host.settings.store, lock_folder=tmp_path / "locks", roots=roots), launcher=launcher
        )

    def photo_path(self, plan: FilmPlan, index: int) -> Path:
        return Path(plan.photo_paths[plan.timeline.clips[index].content.source_digests[0]])

    def test_a_machine_that_has_the_photos_reads_them_where_they_are(self, host: Host, plan: FilmPlan):
        assert localize_photos(plan, plan.segments, settings=host.settings, store=host.store) == plan

    def test_only_the_photos_of_its_segments_are_looked_for(self, host: Host, photos: Path):
        (plan,) = plan_job(make_job(photos.parent), host=host)
        assert len(plan.segments) > 1, "else there is nothing to leave out"
        share_photos(plan, settings=host.settings, store=host.store)
        for photo in photos.iterdir():
            photo.unlink()
        local = localize_photos(plan, plan.segments[:1], settings=host.settings, store=host.store)
        shown = {clip.content.source_digests[0] for clip in plan.timeline.clips_between(0, plan.segments[0].end_frame)}
        assert {digest for digest, path in local.photo_paths.items() if Path(path).exists()} == shown
        assert 0 < len(shown) < 4

    def test_shared_photos_are_found_by_a_machine_without_them(
        self, host: Host, plan: FilmPlan, photos: Path, launcher: Launcher, tmp_path: Path
    ):
        share_photos(plan, settings=host.settings, store=host.store)
        for photo in photos.iterdir():
            photo.unlink()
        other = self.other(host, launcher, tmp_path, "/elsewhere")
        local = localize_photos(plan, plan.segments, settings=other.settings, store=other.store)
        for digest, path in local.photo_paths.items():
            assert blake3(Path(path).read_bytes()).hexdigest() == digest

    def test_another_photo_under_the_same_name_is_not_taken(self, host: Host, plan: FilmPlan, photos: Path):
        share_photos(plan, settings=host.settings, store=host.store)
        draw_photo(self.photo_path(plan, 0), seed=99)
        local = localize_photos(plan, plan.segments, settings=host.settings, store=host.store)
        digest = plan.timeline.clips[0].content.source_digests[0]
        assert local.photo_paths[digest] != plan.photo_paths[digest]
        assert blake3(Path(local.photo_paths[digest]).read_bytes()).hexdigest() == digest

    @pytest.mark.parametrize("location", ["/etc/passwd", "{photos}/../photos/photo-0.jpg", "s3://bucket/a.jpg"])
    def test_a_place_outside_is_not_read(
        self, host: Host, plan: FilmPlan, photos: Path, launcher: Launcher, tmp_path: Path, location: str
    ):
        digest = plan.timeline.clips[0].content.source_digests[0]
        forged = FilmPlan(
            **{name: getattr(plan, name) for name in plan.__slots__}
            | {"photo_paths": {**plan.photo_paths, digest: location.format(photos=photos)}}
        )
        other = self.other(host, launcher, tmp_path, str(tmp_path / "allowed"))
        with pytest.raises(NotAllowedError, match="FANREEL_ROOTS"):
            localize_photos(forged, forged.segments, settings=other.settings, store=other.store)

    def test_a_link_that_is_allowed_is_read_where_it_led_when_it_was_checked(
        self, host: Host, plan: FilmPlan, photos: Path, launcher: Launcher, tmp_path: Path
    ):
        path = self.photo_path(plan, 0)
        path.rename(photos / "real.jpg")
        path.symlink_to("real.jpg")
        other = self.other(host, launcher, tmp_path, str(photos))
        local = localize_photos(plan, plan.segments, settings=other.settings, store=other.store)
        assert local.photo_paths[plan.timeline.clips[0].content.source_digests[0]] == str(photos / "real.jpg")

    @pytest.mark.parametrize("change", [Path.unlink, lambda path: draw_photo(path, seed=99)])
    def test_a_photo_that_is_gone_or_changed_is_not_shared(self, host: Host, plan: FilmPlan, change):
        change(self.photo_path(plan, 0))
        with pytest.raises(PhotoChangedError, match=r"photo-0\.jpg: gone or changed since the film was planned"):
            share_photos(plan, settings=host.settings, store=host.store)

    def test_sharing_leaves_the_photos_where_they_are(self, host: Host, plan: FilmPlan, photos: Path):
        before = {path: path.read_bytes() for path in photos.iterdir()}
        share_photos(plan, settings=host.settings, store=host.store)
        share_photos(plan, settings=host.settings, store=host.store)
        assert {path: path.read_bytes() for path in photos.iterdir()} == before
        assert isinstance(host.store, LocalStore)
        for digest in plan.photo_paths:
            assert host.store.local_photo(digest) is not None

    @pytest.mark.parametrize("digest", ["../../../../etc/passwd", "x" * 64, ""])
    def test_a_digest_that_is_none_names_no_file(self, host: Host, plan: FilmPlan, digest: str):
        forged = FilmPlan(
            **{name: getattr(plan, name) for name in plan.__slots__} | {"photo_paths": {digest: "/etc/passwd"}}
        )
        with pytest.raises(FanreelError):
            share_photos(forged, settings=host.settings, store=host.store)

    def test_a_film_is_published_only_where_this_machine_may(
        self, host: Host, plan: FilmPlan, launcher: Launcher, tmp_path: Path
    ):
        render_job(make_job(tmp_path, seconds_per_slide=1, output="first/film.mp4"), host=host)
        draft, other = join_film(plan, host=host), self.other(host, launcher, tmp_path, str(tmp_path / "allowed"))
        with pytest.raises(NotAllowedError):
            open_destination(plan.output, settings=other.settings)
        with pytest.raises(NotAllowedError):
            publish_film(plan, draft, settings=other.settings)
        assert not Path(plan.output).exists()
