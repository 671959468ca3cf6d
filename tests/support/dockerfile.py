"""Reads a Dockerfile, and runs its steps as scripts in a folder, where there is no container engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """One instruction: its name, `--flag=value` flags, and the rest."""

    name: str
    text: str
    flags: Mapping[str, str] = field(default_factory=dict)

    def words(self) -> list[str]:
        """The rest as words: of a JSON list, or as a shell has them."""
        return json.loads(self.text) if self.text.startswith("[") else shlex.split(self.text)

    def pairs(self) -> dict[str, str]:
        """The assignments of an ENV or ARG."""
        return dict((word.split("=", 1) if "=" in word else (word, "")) for word in self.words())


@dataclass(frozen=True)
class Stage:
    """What stands between one FROM and the next."""

    name: str
    base: str
    instructions: tuple[Instruction, ...]


def read_stages(text: str) -> dict[str, Stage]:
    """Return the stages of a Dockerfile by name."""
    stages: dict[str, Stage] = {}
    for instruction in _instructions(text):
        if instruction.name == "FROM":
            base, _, name = instruction.words()
            stages[name] = Stage(name, base, ())
        else:
            *_, last = stages.values()
            stages[last.name] = Stage(last.name, last.base, (*last.instructions, instruction))
    return stages


def _instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        name, _, rest = line.strip().partition(" ")
        flags = {}
        while match := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
            flags[match[1]] = match[2]
            rest = rest[match.end() :]
        yield Instruction(name, rest.strip(), flags)


def ancestry(stages: Mapping[str, Stage], name: str) -> list[Stage]:
    """Return a stage and those that it is built on, the oldest first."""
    stage = stages[name]
    return [*(ancestry(stages, stage.base) if stage.base in stages else []), stage]


def inherited(stages: Mapping[str, Stage], target: str, name: str) -> str | None:
    """Return the last instruction of that name that holds for an image, or None."""
    found = [one for stage in ancestry(stages, target) for one in stage.instructions if one.name == name]
    return found[-1].text if found else None


def environment(stages: Mapping[str, Stage], target: str) -> dict[str, str]:
    """Return what an image's ENV says, its ARGs at their defaults."""
    values: dict[str, str] = {}
    known: dict[str, str] = {}
    for stage in ancestry(stages, target):
        for one in stage.instructions:
            if one.name == "ARG":
                known |= one.pairs()
            elif one.name == "ENV":
                values |= {key: _expand(text, known | values) for key, text in one.pairs().items()}
    return values


def _expand(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda match: values.get(match[1], os.environ.get(match[1], "")), text)


def run_steps(stages: Mapping[str, Stage], target: str, *, context: Path, root: Path, extra: Mapping[str, str]) -> None:
    """Carry out COPY, WORKDIR, ENV, ARG and RUN of an image's stages, with `root` standing for `/`.

    Args:
        stages: Of the Dockerfile.
        target: Which image.
        context: The checkout.
        root: An empty folder; absolute paths below /opt lie below it.
        extra: Added to the environment of each RUN.
    """
    folder, known = root, {**extra, "PATH": os.environ["PATH"]}
    for stage in ancestry(stages, target):
        for one in stage.instructions:
            text = one.text.replace("/opt/", f"{root}/opt/")
            if one.name == "WORKDIR":
                folder = Path(text)
                folder.mkdir(parents=True, exist_ok=True)
            elif one.name in ("ARG", "ENV"):
                known |= {key: _expand(value, known) for key, value in Instruction(one.name, text).pairs().items()}
            elif one.name == "COPY":
                *sources, last = one.words()
                for source in sources:
                    _copy(context / source, folder / last / ("" if last != "./" else source))
            elif one.name == "RUN":
                done = subprocess.run(
                    ["sh", "-c", text], cwd=folder, env=known, capture_output=True, text=True, timeout=900, check=False
                )
                if done.returncode:
                    raise AssertionError(f"{text}\n{done.stdout}\n{done.stderr}")


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
