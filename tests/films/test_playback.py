"""A film as a browser plays it: the right frame at every join, sought or played through."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.browser import Page, find_chromium, open_page, serve_files
from support.emulated_nvenc import EmulatedDriver
from support.jobs import make_job
from support.processes import environment_in
from support.reference import bt709

from fanreel.codecs import EncoderChoice
from fanreel.host.host import open_host
from fanreel.job.slideshow import SlideshowJob
from fanreel.plan.film import FilmPlan
from fanreel.render.here import plan_job, render_job
from fanreel.settings import Settings

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

SIZE = (320, 180)
RATE = 8
BITS = 10
FRAME_COUNT = 200
SPEED = 0.25  # two frames a second, so that a machine under load has time for each
COLOURS = ((200, 30, 40), (20, 140, 60), (40, 60, 200), (224, 172, 105))

PAGE = """<!doctype html><video id="film" src="film.mp4" muted playsinline preload="auto"></video><script>
const film = document.getElementById("film"), canvas = document.createElement("canvas");
const pen = canvas.getContext("2d", {willReadFrequently: true});
function colourAt(x, y) {
  const side = 8, data = pen.getImageData(x - side / 2, y - side / 2, side, side).data, sum = [0, 0, 0];
  for (let i = 0; i < data.length; i++) if (i % 4 < 3) sum[i % 4] += data[i] / (side * side);
  return sum;
}
function look() {
  canvas.width = film.videoWidth; canvas.height = film.videoHeight;
  pen.drawImage(film, 0, 0);
  let number = 0;
  for (let bit = 0; bit < BITS; bit++) {
    const cell = canvas.width / BITS;
    if (colourAt((bit + 0.5) * cell, canvas.height * 0.75)[1] > 127) number += 2 ** bit;
  }
  const patches = COLOURS.map((_, i) => colourAt((i + 0.5) * canvas.width / COLOURS.length, canvas.height * 0.25));
  return {number, patches};
}
const ready = new Promise((done, fail) => {
  film.addEventListener("canplaythrough", done); film.addEventListener("error", () => fail(film.error.message));
});
async function seek(seconds) {
  await ready;
  const shown = new Promise(done => film.requestVideoFrameCallback((_, what) => done(what.mediaTime)));
  const sought = new Promise(done => film.addEventListener("seeked", done, {once: true}));
  film.currentTime = seconds;
  await sought;
  return {mediaTime: await shown, ...look()};
}
async function play(start, end) {
  await seek(start);
  const seen = [];
  const over = new Promise(done => {
    const note = (_, what) => {
      seen.push({mediaTime: what.mediaTime, number: look().number});
      if (what.mediaTime >= end || film.ended) done(); else film.requestVideoFrameCallback(note);
    };
    film.requestVideoFrameCallback(note);
    film.addEventListener("ended", done);
  });
  film.playbackRate = SPEED;
  await film.play(); await over; film.pause();
  return seen;
}
</script>"""


@dataclass(frozen=True)
class Shown:
    """A film on a page, and what was planned."""

    page: Page
    plan: FilmPlan

    @property
    def joins(self) -> list[int]:
        """Frames at which a segment begins that is not the first."""
        return [segment.start_frame for segment in self.plan.segments[1:]]

    def seek(self, frame: int) -> dict:
        """Return what is seen after a seek to the middle of a frame."""
        return self.page.evaluate(f"seek({(frame + 0.5) / RATE})")  # type: ignore[return-value]


def draw_number(path: Path, number: int) -> None:
    """Write a photo with four colours above and its number, least bit first, as black and white bars below."""
    picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    half = SIZE[1] // 2
    picture[:half] = np.repeat(np.array(COLOURS, np.uint8), SIZE[0] // len(COLOURS), axis=0)
    bars = [255 * (number >> bit & 1) for bit in range(BITS)]
    picture[half:] = np.repeat(np.array(bars, np.uint8), SIZE[0] // BITS)[:, None]
    Image.fromarray(picture).save(path, compress_level=1)


@pytest.fixture(scope="module")
def chromium() -> str:
    return find_chromium()


@pytest.fixture(scope="module", params=["x264", "nvenc and x264"])
def shown(request: pytest.FixtureRequest, chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """A film whose every frame is a photo of its own, with the frame's number on it."""
    folder = tmp_path_factory.mktemp("playback")
    (folder / "photos").mkdir()
    for number in range(FRAME_COUNT):
        draw_number(folder / "photos" / f"{number:04d}.png", number)
    encoding = {"preset": "fast", "quality": 1}
    job = make_job(folder, fps=str(RATE), seconds_per_slide=1 / RATE, move="still", encoding=encoding)
    host = open_host(Settings(store=folder / "store", lock_folder=folder / "locks", hang_seconds=60, wait_seconds=120))
    try:
        plan = plan_job(job, host=host)[0]
        render_job(job, host=host)
        if request.param != "x264":
            render_by_nvenc(folder, job)
            for segment in plan.segments[1::2]:
                host.store.local_copy(host.store.read_record(segment.address, encoders=("nvenc",))).unlink()
            (report,) = render_job(job, host=host)
            assert min(report.encoders.values()) >= 2
            assert set(report.encoders) == {"nvenc", "x264"}
    finally:
        host.launcher.close()
    words = PAGE.replace("SPEED", str(SPEED)).replace("BITS", str(BITS)).replace("COLOURS", json.dumps(COLOURS))
    files = {"": ("text/html", words.encode()), "film.mp4": ("video/mp4", Path(plan.output).read_bytes())}
    with serve_files(files) as address, open_page(chromium, folder) as page:
        page.open(address)
        assert page.evaluate("ready.then(() => true)")
        yield Shown(page, plan)


def render_by_nvenc(folder: Path, job: SlideshowJob) -> None:
    """Make every segment by the emulated encoder too, which a process must be started with."""
    driver = EmulatedDriver(folder / "hardware")
    asked = job.model_copy(update={"encoding": job.encoding.model_copy(update={"encoder": EncoderChoice.NVENC})})
    (folder / "job.yaml").write_text(asked.model_dump_json())
    command = [sys.executable, "-m", "fanreel", "render", str(folder / "job.yaml")]
    env = environment_in(folder) | driver.environment
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr


def test_length_and_size_are_the_film_s(shown: Shown):
    assert shown.page.evaluate("[film.videoWidth, film.videoHeight]") == list(SIZE)
    assert shown.page.evaluate("film.duration") == pytest.approx(FRAME_COUNT / RATE, abs=1e-3)


def test_a_seek_shows_the_right_frame_on_both_sides_of_every_join(shown: Shown):
    assert len(shown.joins) >= 2
    wanted = [0, *(join + offset for join in shown.joins for offset in (-2, -1, 0, 1)), FRAME_COUNT - 1]
    # From the last frame to the first: a player that only goes on decoding would show others.
    found = {frame: shown.seek(frame) for frame in reversed(wanted)}
    assert {frame: seen["number"] for frame, seen in found.items()} == {frame: frame for frame in wanted}
    for frame, seen in found.items():
        assert seen["mediaTime"] == pytest.approx(frame / RATE, abs=1e-3)


def test_playing_through_every_join_shows_the_frames_in_order(shown: Shown):
    for join in shown.joins:
        start, end = join - 4, join + 3
        seen = shown.page.evaluate(f"play({(start + 0.5) / RATE}, {end / RATE})")
        assert isinstance(seen, list)
        times = [each["mediaTime"] for each in seen]
        assert times == sorted(times)
        numbers = [round(each * RATE) for each in times]
        assert times == pytest.approx([number / RATE for number in numbers], abs=1e-3)
        # A frame that came while the last one was being read may be on the canvas already: never an older one.
        for number, each in zip(numbers, seen, strict=True):
            assert each["number"] in (number, number + 1)
        # A machine under load drops frames; the ones at the join are looked at in most runs, and by seeking in all.
        assert len(set(numbers)) >= (end - start) // 2
        assert min(numbers) < join <= max(numbers)


def test_colours_are_those_of_the_photo(shown: Shown):
    # What 8 bits of Y, Cb and Cr round away, and what Chromium's own conversion in software adds: its factor of Cb for
    # blue is 2.0 where BT.709 in limited range says 2.112 (measured; the decoded planes themselves are right).
    blueness = np.abs(bt709(np.array(COLOURS))[1] - 128)
    allowed = np.stack([np.full(len(COLOURS), 2.5), np.full(len(COLOURS), 2.5), 2.5 + 0.112 * blueness], axis=1)
    for frame in (0, shown.joins[0], FRAME_COUNT - 1):
        off = np.abs(np.array(shown.seek(frame)["patches"]) - COLOURS)
        assert (off <= allowed).all(), off
