"""A film's poster, as a page shows it: judged by another decoder."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from support.film_damage import make_film

from fanreel.errors import FilmDamagedError
from fanreel.join.poster import draw_poster


@pytest.mark.parametrize(
    ("size", "wanted"), [((320, 180), (320, 180)), ((960, 540), (480, 270)), ((90, 1080), (40, 480))]
)
def test_it_is_a_frame_of_the_film(tmp_path: Path, size: tuple[int, int], wanted: tuple[int, int]) -> None:
    film = make_film(tmp_path, frame_counts=(6, 6), size=size).path
    poster = draw_poster(film)
    assert len(poster) < 100_000
    seen = cv2.imdecode(np.frombuffer(poster, np.uint8), cv2.IMREAD_COLOR)
    assert seen.shape[1::-1] == wanted
    with av.open(str(film)) as container:
        frames = [
            frame.reformat(
                format="bgr24", src_colorspace=Colorspace.ITU709, src_color_range=ColorRange.MPEG
            ).to_ndarray()
            for frame in container.decode(video=0)
        ]
    nearest = min(
        np.abs(cv2.resize(frame, wanted, interpolation=cv2.INTER_AREA).astype(int) - seen).mean() for frame in frames
    )
    assert nearest < 6


def test_a_film_without_pictures_has_none(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"no film")
    with pytest.raises(FilmDamagedError, match=r"film\.mp4: no picture of it can be drawn"):
        draw_poster(tmp_path / "film.mp4")
