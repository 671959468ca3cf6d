"""The flow `render-inbox` with a real Prefect server, and its command without one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.utilities.callables import parameter_schema
from support.jobs import draw_photo
from support.prefect_server import give_database
from support.processes import environment_in, own_tracebacks

from fanreel.batches.inbox_films import FilmState, InboxFilm, InboxRow, look_into_inbox, order_inbox
from fanreel.errors import FanreelError, InvalidJobError, UnreadablePhotoError
from fanreel.host.host import current_host
from fanreel.join.certificate import certificate_path, read_certificate
from fanreel.join.verify import find_damage
from flows.command import run_inbox
from flows.render_inbox import render_inbox
from tasks.inbox import make_film

ROOT = Path(__file__).parents[2]
SMALL = {"size": "64x64", "fps": "8", "seconds_per_slide": 1, "encoding": {"preset": "draft", "quality": 40}}

Fill = Callable[..., Path]


@pytest.fixture(scope="module", autouse=True)
def _host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("host")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FANREEL_STORE", str(folder / "store"))
        patch.setenv("FANREEL_LOCK_FOLDER", str(folder / "locks"))
        current_host.cache_clear()
        yield
        current_host().launcher.close()
        current_host.cache_clear()


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def fill(inbox: Path) -> Fill:
    """Makes a sub-folder: a photo, a small job, a marker."""

    def fill_one(name: str, *, ready: bool = True, **words: Any) -> Path:
        folder = inbox / name
        folder.mkdir()
        draw_photo(folder / "a.jpg", seed=len(list(inbox.iterdir())), size=(120, 90))
        (folder / "job.yaml").write_text(yaml.safe_dump(SMALL | words), encoding="utf-8")
        if ready:
            (folder / ".ready").touch()
        return folder

    return fill_one


def run_id(state: State[Any]) -> UUID:
    assert state.state_details.flow_run_id is not None
    return state.state_details.flow_run_id


def children(state: State[Any]) -> list[FlowRun]:
    chosen = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run_id(state)]))
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=chosen)


def table(state: State[Any]) -> dict[str, tuple[str, str]]:
    """Return the rows that the run showed, by sub-folder."""
    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id(state)]))
    with get_client(sync_client=True) as client:
        (artifact,) = [found for found in client.read_artifacts(artifact_filter=chosen) if found.key == "inbox"]
    rows = json.loads(str(artifact.data))
    return {row["sub-folder"]: (row["film"], row["where or why"]) for row in rows}


def assert_sound(film: Path) -> None:
    assert find_damage(film, read_certificate(certificate_path(film)), full=True) == ()


@pytest.mark.usefixtures("prefect_server")
def test_an_inbox_that_is_not_set_is_told_how_to_be() -> None:
    state = render_inbox("", return_state=True)
    assert state.is_failed()
    assert state.message is not None
    assert state.message.startswith("inbox: it is not set; give it here, or for every night: prefect variable set ")


@pytest.mark.soak
@pytest.mark.usefixtures("prefect_server")
def test_each_sub_folder_is_told_and_a_broken_one_fails_the_run(inbox: Path, fill: Fill) -> None:
    fill("a trip {x} %s ü")
    (fill("bad photo") / "b.jpg").write_bytes(b"no photo")
    fill("bad words", sise=1)
    fill("late", ready=False)
    (fill("song") / "song.mp3").touch()
    state = render_inbox(str(inbox), quiet_seconds=3600, return_state=True)

    assert state.is_failed()
    with pytest.raises(UnreadablePhotoError) as caught:
        state.result()
    lines = str(caught.value).splitlines()
    assert lines[0] == "2 of 5 sub-folders are broken, and tried again next time:"
    assert lines[1].startswith("bad photo: photos: ")
    assert lines[2] == "bad words: job.yaml: sise: unknown key; did you mean 'size'?"
    assert state.message is not None
    assert "bad photo" in state.message

    rows = table(state)
    assert {name: row[0] for name, row in rows.items()} == {
        "a trip {x} %s ü": "rendered",
        "bad photo": "broken",
        "bad words": "broken",
        "late": "waiting",
        "song": "rendered",
    }
    assert rows["a trip {x} %s ü"][1] == str(inbox / "a trip {x} %s ü.mp4")
    assert "b.jpg" in rows["bad photo"][1]
    assert rows["late"][1].startswith("waiting for .ready, or for 3600 s")
    assert rows["song"][1].splitlines()[1] == "song.mp3: not used yet; films have no sound so far"
    assert_sound(inbox / "a trip {x} %s ü.mp4")
    assert_sound(inbox / "song.mp4")

    # Each film is a flow run of its own, under its own name; none was tried twice.
    assert sorted((run.name, run.state_name) for run in children(state)) == [
        ("a trip {x} %s ü.mp4", "Completed"),
        ("bad photo.mp4", "Failed"),
        ("song.mp4", "Completed"),
    ]
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(run_id(state)).name == f"inbox {inbox}"


@pytest.mark.soak
@pytest.mark.usefixtures("prefect_server")
def test_the_next_run_makes_what_is_left(inbox: Path, fill: Fill) -> None:
    fill("good")
    broken = fill("broken", zoom=99)
    assert render_inbox(str(inbox), return_state=True).is_failed()
    (broken / "job.yaml").write_text(yaml.safe_dump(SMALL))
    state = render_inbox(str(inbox), return_state=True)

    assert state.is_completed()
    assert {name: row[0] for name, row in table(state).items()} == {"broken": "rendered", "good": "done before"}
    assert [run.name for run in children(state)] == ["broken.mp4"]
    assert [row.state for row in state.result()] == [FilmState.RENDERED, FilmState.DONE]


@pytest.mark.soak
@pytest.mark.usefixtures("prefect_server")
def test_an_empty_inbox_is_no_failure_and_a_missing_one_is(inbox: Path) -> None:
    state = render_inbox(str(inbox), return_state=True)
    assert state.is_completed()
    assert table(state) == {}
    assert children(state) == []
    with pytest.raises(InvalidJobError, match="none: No such file"):
        render_inbox(str(inbox / "none"))
    with pytest.raises(InvalidJobError, match="'in' is not allowed; an absolute folder"):
        render_inbox("in")


@pytest.mark.soak
@pytest.mark.usefixtures("prefect_server")
def test_an_error_that_is_not_ours_breaks_its_film_only(inbox: Path, fill: Fill) -> None:
    fill("trip")
    order = order_inbox(str(inbox))
    (row,), _ = look_into_inbox(order, settings=current_host().settings)

    @flow(name="odd")
    def odd() -> None:
        raise KeyError("surprise")

    @flow(name="around")
    def around() -> InboxRow:
        return make_film(row, order, render=lambda job: odd(return_state=True))

    made = around()
    assert made.state is FilmState.BROKEN
    assert type(made.error) is FanreelError
    assert "ended as Failed" in made.detail
    assert "KeyError" in made.detail
    assert isinstance(made.film, InboxFilm)


@pytest.mark.soak
@pytest.mark.usefixtures("prefect_server")
def test_a_run_costs_few_task_runs(inbox: Path, fill: Fill) -> None:
    for index in range(3):
        fill(f"trip {index}")
    state = render_inbox(str(inbox), return_state=True)
    chosen = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[run_id(state)]))
    with get_client(sync_client=True) as client:
        names = [run.name.rpartition("-")[0] or run.name for run in client.read_task_runs(task_run_filter=chosen)]
    # Each film's own flow run counts as one here.
    assert len(names) <= 2 + 3


def test_the_form_is_flat() -> None:
    schema = parameter_schema(render_inbox).model_dump()
    properties = schema["properties"]
    assert list(properties) == ["inbox", "output", "ready", "complete_when", "quiet_seconds", "render_on"]
    assert schema["required"] == ["inbox"]
    assert all(properties[name]["type"] == "string" for name in ("inbox", "output", "ready", "render_on"))
    assert (properties["quiet_seconds"]["type"], properties["quiet_seconds"]["minimum"]) == ("number", 0)
    assert schema["definitions"]["CompleteWhen"]["enum"] == ["marker-or-quiet", "marker", "quiet"]
    assert "anyOf" not in json.dumps(schema)
    assert all(properties[name].get("description") for name in properties)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["in", "out"],
        ["in", "--complete-when", "never"],
        *(["in", "--quiet-seconds", value] for value in ("soon", "-1", "nan", "inf", "604801")),
    ],
)
def test_the_command_refuses_what_it_does_not_know(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run_inbox(lambda **words: pytest.fail("it ran"), arguments)
    assert end.value.code == 2
    assert "usage: python -m flows.render_inbox" in capfd.readouterr().err


def test_the_command_s_paths_start_where_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    told: list[dict[str, Any]] = []

    def render(**words: Any) -> list[InboxRow]:
        told.append(words)
        return [InboxRow("trip", FilmState.DONE, "/trip.mp4")]

    assert run_inbox(render, ["in", "--output", "s3://films/out/"]) == 0
    assert run_inbox(render, ["s3://films/in/", "--output", "out", "--render-on", "nvenc,cpu"]) == 0
    assert run_inbox(render, ["in"]) == 0
    assert [(words["inbox"], words["output"], words["render_on"]) for words in told] == [
        (f"{tmp_path}/in", "s3://films/out/", "here"),
        ("s3://films/in/", f"{tmp_path}/out", "nvenc,cpu"),
        (f"{tmp_path}/in", "", "here"),
    ]
    assert capfd.readouterr().out == "done before trip  /trip.mp4\n" * 3


def _ask(inbox: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.render_inbox", str(inbox)]
    give_database(folder / "prefect")
    return subprocess.run(
        command, cwd=ROOT, env=environment_in(folder), capture_output=True, text=True, timeout=280, check=False
    )


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_command_needs_no_server(inbox: Path, fill: Fill, tmp_path: Path) -> None:
    fill("good")
    (fill("bad") / "b.jpg").write_bytes(b"no photo")
    done = _ask(inbox, tmp_path)

    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    ours = done.stderr[done.stderr.index("fanreel: ") :].splitlines()
    assert ours[0] == "fanreel: 1 of 2 sub-folders are broken, and tried again next time:"
    assert ours[1].startswith("bad: photos: ")
    assert own_tracebacks(done.stderr) == []
    assert_sound(inbox / "good.mp4")
