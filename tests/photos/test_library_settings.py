"""Settings of the libraries that read photos: ours while a photo is read, the program's own before and after."""

import subprocess
import sys
import threading
import warnings

import cv2
import pi_heif
import pytest
from PIL import AvifImagePlugin, Image
from support.photo_files import chart, encoded

from fanreel.errors import UnreadablePhotoError
from fanreel.photos.library_settings import photo_settings
from fanreel.photos.photo import decode_photo, read_photo

SETTINGS = """
import logging, warnings
import cv2, numba, pi_heif
from PIL import AvifImagePlugin, Image, ImageFile

def settings():
    return {
        "Pillow": (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, AvifImagePlugin.DEFAULT_MAX_THREADS),
        "Pillow's log": (list(logging.getLogger("PIL").handlers), logging.getLogger("PIL").level),
        "Pillow's warnings": [each for each in warnings.filters if "PIL" in str(each)],
        "pi-heif": {name: value for name, value in vars(pi_heif.options).items() if name.isupper()},
        "OpenCV": (cv2.utils.logging.getLogLevel(), cv2.getNumThreads(), cv2.useOptimized()),
        "numba": {name: str(value) for name, value in vars(numba.config).items() if name.isupper()},
    }
"""
IMPORT_ALL = """
import importlib, json, pkgutil
import fanreel
before, count = settings(), 0
for module in pkgutil.walk_packages(fanreel.__path__, "fanreel."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        count += 1
after = settings()
print(count > 100, [name for name in before if before[name] != after[name]])
"""


def test_importing_the_engine_changes_no_setting_of_a_library():
    code = SETTINGS + IMPORT_ALL
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split("\n")[0] == "True []"


@pytest.fixture
def settings():
    found = {}
    exec(SETTINGS, found)
    return found["settings"]


def test_reading_a_photo_leaves_the_settings_as_they_were(tmp_path, settings, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    before, filters = settings(), list(warnings.filters)
    for kind in ("JPEG", "TIFF", "AVIF"):
        path = tmp_path / kind
        path.write_bytes(encoded(chart(), kind))
        decode_photo(path, read_photo(path, max_megapixels=1), largest_reduction=1)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(UnreadablePhotoError):
            read_photo(path, max_megapixels=1)
    assert settings() == before
    assert warnings.filters == filters


def test_the_settings_stay_until_the_last_thread_is_done(settings):
    before, inside, leave = settings(), threading.Event(), threading.Event()

    def read():
        with photo_settings():
            inside.set()
            leave.wait()

    other = threading.Thread(target=read)
    with photo_settings():
        other.start()
        inside.wait()
    try:
        assert Image.MAX_IMAGE_PIXELS is None
        assert AvifImagePlugin.DEFAULT_MAX_THREADS == pi_heif.options.DECODE_THREADS == 1
        assert cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_SILENT
        with photo_settings():
            pass
        assert Image.MAX_IMAGE_PIXELS is None
    finally:
        leave.set()
        other.join()
    assert settings() == before
