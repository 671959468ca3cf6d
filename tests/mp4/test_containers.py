"""Media that names other files or addresses: a playlist called .mp4, a drawing called .jpg. None of it is followed.

Beside each lies what it names, a marked file whose openings the kernel reports, and a web server that would see any
request. That the traps are live is proven by libavformat without our bounds.
"""

import ast
import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import av
import av.error
import cv2
import numpy as np
import pytest
from blake3 import blake3
from PIL import Image
from support.jobs import make_job
from support.web_server import WebServer, say, serve_web

from fanreel.audio.track import read_audio
from fanreel.errors import FilmDamagedError, MediaError, UnreadablePhotoError
from fanreel.host.host import Host, open_host
from fanreel.intake.sources import fetch_stills
from fanreel.join.certificate import certificate_path
from fanreel.mp4.containers import open_mp4
from fanreel.photos.photo import decode_photo, read_photo
from fanreel.plan.content import Photo
from fanreel.publish.published import verify_film
from fanreel.render.here import render_job
from fanreel.sessions.launcher import Launcher
from fanreel.settings import Settings

IN_OPEN, IN_NONBLOCK = 0x20, 0x800
LIBC = ctypes.CDLL(None, use_errno=True)

TRAPS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n",
    "hls with a map": '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-MAP:URI="{target}"\n#EXTINF:9,\n{target}\n',
    "hls with a key": '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF:9,\nx.ts\n',
    "concat": "ffconcat version 1.0\nfile '{target}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'profiles="urn:mpeg:dash:profile:isoff-main:2011" mediaPresentationDuration="PT1S"><Period>'
    '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{target}</BaseURL>'
    "<SegmentBase/></Representation></AdaptationSet></Period></MPD>",
    "svg": '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="8" height="6">'
    '<image xlink:href="{target}" width="8" height="6"/></svg>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=video 5004 RTP/AVP 96\na=control:{target}\n",
    "xml": '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY y SYSTEM "{target}">]><x>&y;</x>',
    "postscript": "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n({target}) (r) file 99 string readstring\n%%EOF\n",
    "mvg": "push graphic-context\nviewbox 0 0 8 6\nimage over 0,0 8,6 '{target}'\npop graphic-context\n",
    "pls": "[playlist]\nFile1={target}\nNumberOfEntries=1\n",
    "asx": '<asx version="3.0"><entry><ref href="{target}"/></entry></asx>',
    "page": '<html><img src="{target}"><meta http-equiv="refresh" content="0;url={target}"></html>',
}


class Openings:
    """Tells whether a file was opened, by anyone, as the kernel saw it."""

    def __init__(self, path: Path) -> None:
        self._descriptor = LIBC.inotify_init1(IN_NONBLOCK)
        assert self._descriptor >= 0
        assert LIBC.inotify_add_watch(self._descriptor, os.fsencode(path), IN_OPEN) >= 0

    def any(self) -> bool:
        """Return whether it was opened since this was last asked."""
        with contextlib.suppress(BlockingIOError):
            return bool(os.read(self._descriptor, 1 << 16))
        return False

    def close(self) -> None:
        os.close(self._descriptor)


@pytest.fixture
def web() -> Iterator[WebServer]:
    with serve_web() as server:
        yield server


def encode_film(path: Path) -> Path:
    """Write a film of eight frames by libavformat, its `moov` last."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        container.mux(stream.encode())
    return path


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """A film that someone else may see, and that no file of a job may bring in."""
    return encode_film(tmp_path / "marked.mp4")


@pytest.fixture
def openings(marked: Path) -> Iterator[Openings]:
    found = Openings(marked)
    yield found
    found.close()


def targets(marked: Path, web: WebServer) -> dict[str, str]:
    web.answers["/marked.mp4"] = say(200, marked.read_bytes())
    return {
        "path": str(marked),
        "name": marked.name,
        "file": f"file://{marked}",
        "http": f"{web.url}/marked.mp4",
        "concat": f"concat:{marked}",
        "subfile": f"subfile,,start,0,end,0,,:{marked}",
        "http in crypto": f"crypto+{web.url}/marked.mp4",
    }


def traps(folder: Path, suffix: str, marked: Path, web: WebServer) -> list[Path]:
    """Write every trap with every target, under names of this suffix."""
    paths = []
    for kind, text in TRAPS.items():
        for way, target in targets(marked, web).items():
            path = folder / f"{kind} {way}{suffix}"
            path.write_text(text.format(target=target))
            paths.append(path)
    assert len(paths) > 80
    return paths


def test_the_traps_are_live(tmp_path: Path, marked: Path, openings: Openings, web: WebServer):
    """By libavformat as it comes, and with what people switch on in it, they are followed."""
    assert not openings.any()
    found = targets(marked, web)
    free = {"protocol_whitelist": "file,http,tcp,crypto,subfile,concat"}
    for kind, options in (("hls", {"allowed_extensions": "ALL", "extension_picky": "0"}), ("concat", {"safe": "0"})):
        for way in ("path", "http"):
            path = tmp_path / "trap.mp4"
            path.write_text(TRAPS[kind].format(target=found[way]))
            web.requests.clear()
            with av.open(str(path), format=kind, options=free | options) as container:
                assert len(list(container.demux())) > 8
            assert openings.any() == (way == "path")
            assert bool(web.requests) == (way == "http")
    # One of them even by a name that ends in .mp4, by what it says inside.
    (tmp_path / "trap.mp4").write_text("ffconcat version 1.0\nfile marked.mp4\n")
    with av.open(str(tmp_path / "trap.mp4")) as container:
        assert len(list(container.demux())) > 8
    assert openings.any()


def test_no_playlist_is_read_as_a_film(tmp_path: Path, marked: Path, openings: Openings, web: WebServer):
    for path in traps(tmp_path, ".mp4", marked, web):
        openings.any()
        with pytest.raises(av.error.FFmpegError):
            open_mp4(path)
        assert not openings.any(), path.name
    assert web.requests == []


def test_no_playlist_is_read_as_audio(tmp_path: Path, marked: Path, openings: Openings, web: WebServer):
    for path in traps(tmp_path, ".m4a", marked, web):
        openings.any()
        with pytest.raises(MediaError):
            read_audio(path)
        assert not openings.any(), path.name
    assert web.requests == []


@pytest.mark.parametrize(
    "name", ["concat:marked.mp4|marked.mp4", "subfile,,start,0,end,0,,:marked.mp4", "data:video,x"]
)
def test_a_name_that_looks_like_a_protocol_is_a_name(
    tmp_path: Path, marked: Path, openings: Openings, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(av.error.FileNotFoundError):
        open_mp4(Path(name))
    assert not openings.any()
    marked.rename(tmp_path / name.replace("/", ""))
    with open_mp4(Path(name)) as container:
        assert len(list(container.demux())) > 8


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".heic", ".svg", ".tif"])
def test_no_drawing_or_playlist_is_read_as_a_photo(
    tmp_path: Path, marked: Path, openings: Openings, web: WebServer, suffix: str
):
    for path in traps(tmp_path, suffix, marked, web):
        openings.any()
        with pytest.raises(UnreadablePhotoError):
            read_photo(path, max_megapixels=100)
        assert not openings.any(), path.name
    assert web.requests == []


def test_no_drawing_is_drawn_even_if_a_plan_says_so(tmp_path: Path, marked: Path, openings: Openings, web: WebServer):
    for path in traps(tmp_path, ".jpg", marked, web):
        openings.any()
        for digest in ("0" * 64, blake3(path.read_bytes()).hexdigest()):
            with pytest.raises(MediaError):
                decode_photo(path, Photo(digest=digest, width_px=8, height_px=6), largest_reduction=1)
        assert not openings.any(), path.name


def test_a_folder_of_them_is_refused_name_by_name(tmp_path: Path, marked: Path, openings: Openings, web: WebServer):
    folder = tmp_path / "photos"
    folder.mkdir()
    paths = traps(folder, ".jpg", marked, web)
    openings.any()
    with pytest.raises(UnreadablePhotoError) as caught:
        fetch_stills(make_job(tmp_path), settings=Settings(store=tmp_path / "store"))
    assert len(str(caught.value).splitlines()) == len(paths)
    assert not openings.any()
    assert web.requests == []


def test_a_photo_with_a_drawing_inside_shows_the_photo(
    tmp_path: Path, marked: Path, openings: Openings, web: WebServer
):
    """In its comment, its EXIF and behind its end."""
    svg = TRAPS["svg"].format(target=f"{web.url}/marked.mp4").encode()
    path, exif = tmp_path / "photo.jpg", Image.Exif()
    exif[0x010E] = svg.decode()
    Image.new("RGB", (64, 48), (200, 20, 20)).save(path, comment=svg, exif=exif)
    path.write_bytes(path.read_bytes() + svg + TRAPS["concat"].format(target=marked).encode())
    photo = read_photo(path, max_megapixels=1)
    assert decode_photo(path, photo, largest_reduction=1).bgr.mean(axis=(0, 1)).round(-1).tolist() == [20, 20, 200]
    assert not openings.any()
    assert web.requests == []


@pytest.fixture
def film(host: Host, photos: Path, launcher: Launcher) -> Path:
    """A published film with its certificate."""
    opened = open_host(host.settings, launcher=launcher)
    (report,) = render_job(make_job(photos.parent, seconds_per_slide=1), host=opened)
    return Path(report.film)


def test_a_playlist_in_the_place_of_a_film_is_damage(
    tmp_path: Path, marked: Path, openings: Openings, web: WebServer, film: Path
):
    assert certificate_path(film).exists()
    whole = film.read_bytes()
    for path in traps(tmp_path, ".mp4", marked, web):
        # As it is; and with a film's head, so that no look at the first bytes tells.
        for data in (path.read_bytes(), whole[: whole.index(b"moov") - 4] + path.read_bytes()):
            film.write_bytes(data)
            openings.any()
            with pytest.raises(FilmDamagedError):
                verify_film(film, full=True)
            assert not openings.any(), path.name
    assert web.requests == []
    film.write_bytes(whole)
    verify_film(film, full=True)


def with_samples_elsewhere(film: bytes, name: str) -> bytes:
    """Return an MP4, whose `moov` is last, that says that its samples lie in a file beside it.

    Source: QuickTime File Format, data reference atoms; Inside Macintosh: Files, alias records, version 2.
    """
    path = b"volume:" + name.encode()
    path += bytes(len(path) % 2)
    alias = bytes(10) + b"\6volume".ljust(28, b"\0") + bytes(12) + bytes([len(name)]) + name.encode().ljust(63, b"\0")
    alias += bytes(16) + struct.pack(">HH", 1, 1) + bytes(16)
    alias += struct.pack(">HH", 2, len(path)) + path + struct.pack(">HH", 0xFFFF, 0)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    own = film.index(b"url \0\0\0\1") - 4
    grown = len(entry) - 12
    data = bytearray(film[:own] + entry + film[own + 12 :])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        at = film.index(kind) - 4
        struct.pack_into(">I", data, at, struct.unpack_from(">I", film, at)[0] + grown)
    return bytes(data)


def test_samples_in_another_file_are_not_read(tmp_path: Path, marked: Path, openings: Openings):
    trap = tmp_path / "trap.mp4"
    trap.write_bytes(with_samples_elsewhere(marked.read_bytes(), marked.name))
    openings.any()
    with av.open(str(trap), format="mp4", options={"enable_drefs": "1"}) as container:
        list(container.demux())
    assert openings.any(), "the trap is not live"
    with contextlib.suppress(av.error.FFmpegError), open_mp4(trap, options={"enable_drefs": "1"}) as container:
        list(container.demux())
    assert not openings.any()


# What could be added tomorrow, read from the source


FANREEL = Path(__file__).parents[2] / "fanreel"
CALLS = [
    (path.relative_to(FANREEL).as_posix(), node)
    for path in sorted(FANREEL.rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.Call)
]


def calls(name: str) -> dict[str, list[ast.Call]]:
    """The calls of a dotted name in the engine, by module."""
    found: dict[str, list[ast.Call]] = {}
    for module, node in CALLS:
        if ast.unparse(node.func) == name:
            found.setdefault(module, []).append(node)
    return found


def test_one_module_opens_containers():
    assert set(calls("av.open")) == {"mp4/containers.py"}
    assert not calls("av.container.open")


def test_pillow_is_told_which_formats_it_may_try():
    found = calls("Image.open")
    assert set(found) == {"photos/header.py"}
    assert all("formats" in [word.arg for word in call.keywords] for call in found["photos/header.py"])


@pytest.mark.parametrize("name", ["cv2.imread", "cv2.VideoCapture", "cv2.imreadmulti", "Image.core.open"])
def test_nothing_opens_media_by_its_name(name: str):
    assert not calls(name)


def test_opencv_is_given_bytes():
    assert set(calls("cv2.imdecode")) == {"photos/pixels.py"}
    assert cv2.imdecode(np.frombuffer(TRAPS["svg"].encode(), np.uint8), cv2.IMREAD_COLOR) is None
