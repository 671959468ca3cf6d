"""The session limit of a GPU, as far as its refusals tell: a file that all of a host's users share."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from support.processes import in_fork

from fanreel.sessions.learned_limit import LEARNED_SECONDS, LearnedLimit


class TestLearnedLimit:
    def test_nothing_is_known_at_first_or_of_a_damaged_file(self, tmp_path: Path) -> None:
        limit = LearnedLimit(tmp_path / "gpu.limit")
        assert limit.read() is None
        for text in (b"", b"{", b"[]", b'{"sessions": 2}', b'{"sessions": "x", "until": 1e18}', b"\xff\xfe"):
            limit.path.write_bytes(text)
            assert limit.read() is None

    def test_the_lowest_refusal_holds_for_everyone_for_a_minute(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit, other = LearnedLimit(tmp_path / "gpu.limit"), LearnedLimit(tmp_path / "gpu.limit")
        for sessions, known in ((5, 5), (3, 3), (4, 3)):
            limit.learn(sessions)
            assert other.read() == known
        limit.learn(0)
        assert other.read() == 1, "one is always tried"
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + LEARNED_SECONDS + 1)
        assert other.read() is None

    def test_a_folder_that_cannot_be_written_is_no_error(self, tmp_path: Path) -> None:
        limit = LearnedLimit(tmp_path / "nowhere" / "gpu.limit")
        limit.learn(3)
        assert limit.read() is None


class TestLearnedLimitOfMany:
    def test_a_planted_link_is_neither_written_nor_opened_to_all(self, tmp_path: Path) -> None:
        mine = tmp_path / "mine"
        mine.write_text("precious")
        mine.chmod(0o600)
        folder = tmp_path / "locks"
        folder.mkdir()
        limit = LearnedLimit(folder / "gpu.limit")
        for planted in (limit.path, folder / f".gpu.limit.{os.getpid()}"):
            planted.symlink_to(mine)
        limit.learn(2)
        assert (mine.read_text(), mine.stat().st_mode & 0o777) == ("precious", 0o600)

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
    def test_another_user_learns_after_the_first(self, open_folder: Path) -> None:
        open_folder.chmod(0o1777)
        limit = LearnedLimit(open_folder / "gpu.limit")
        limit.learn(5)
        assert limit.read() == 5
        in_fork(lambda: limit.learn(3), uid=65534)
        assert limit.read() == 3

    def test_what_is_read_while_others_learn_is_whole(self, tmp_path: Path) -> None:
        limit, end = LearnedLimit(tmp_path / "gpu.limit"), threading.Event()
        limit.learn(7)

        def learn() -> None:
            while not end.is_set():
                limit.learn(7)

        threads = [threading.Thread(target=learn) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            assert {limit.read() for _ in range(300)} == {7}
        finally:
            end.set()
            for thread in threads:
                thread.join()
