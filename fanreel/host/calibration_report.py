"""A calibration for people: as a table, and kept with its picture beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fanreel.host.calibration import Calibration, DeviceCalibration, write_calibration, write_whole
from fanreel.host.calibration_picture import draw_calibration

__all__ = ["calibration_rows", "calibration_table", "conclusion", "keep_calibration"]


def keep_calibration(calibration: Calibration, path: Path | None) -> tuple[Path, ...]:
    """Write the calibration and, beside it, its picture; return both paths, or none if nothing is to be kept.

    Raises:
        StorageError: They cannot be written.
    """
    if path is None:
        return ()
    write_calibration(calibration, path)
    picture = path.with_suffix(".png")
    write_whole(picture, draw_calibration(calibration))
    return path, picture


def calibration_rows(calibration: Calibration) -> list[dict[str, str]]:
    """Return one row of words for each number of sessions that was measured."""
    return [
        {
            "device": each.name,
            "id": each.device,
            "sessions": str(point.sessions),
            "frames/s": f"{point.fps:.0f}",
            "a session": f"{point.fps / point.sessions:.0f}",
            "GPU memory": _mebibytes(point.gpu_bytes),
            "memory a session": _mebibytes(point.session_bytes),
            "": "knee" if point.sessions == each.knee else "",
        }
        for each in calibration.devices
        for point in each.curve
    ]


def calibration_table(calibration: Calibration) -> str:
    """Return the calibration as lines of text: each device, its curve, and what follows."""
    blocks = []
    for each in calibration.devices:
        rows = calibration_rows(Calibration(calibration.host, (each,)))
        columns = [column for column in rows[0] if column not in ("device", "id")]
        lines = [columns, *([row[column] for column in columns] for row in rows)]
        blocks.append(f"{_title(each)}\n{_align(lines)}\n{conclusion(each)}")
    return "\n\n".join(blocks)


def conclusion(measured: DeviceCalibration) -> str:
    """Return what follows from a device's curve, in one line."""
    if not measured.driver and measured.encoder != "nvenc":
        return f"knee at {measured.knee}; for information: the CPU's sessions follow its cores and memory"
    if measured.limit is not None:
        limit = f"the driver allows {measured.limit}"
    else:
        limit = f"the driver refused none of {measured.tried}"
    memory = measured.gpu_bytes_a_session
    taken = f"; {memory >> 20} MiB of GPU memory a session" if memory is not None else ""
    counted = "1 session" if measured.sessions == 1 else f"{measured.sessions} sessions"
    return f"knee at {measured.knee}, {limit}: films get {counted} at once{taken}"


def _title(each: DeviceCalibration) -> str:
    facts = [f"driver {each.driver}"] if each.driver else []
    facts += [f"{each.engines} NVENC engine{'' if each.engines == 1 else 's'}"] if each.engines else []
    return ", ".join([f"{each.name} ({each.device})", each.encoder, *facts, f"PyAV {each.pyav}", each.film])


def _align(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    aligned = ("  ".join(word.rjust(width) for word, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(f"  {line}".rstrip() for line in aligned)


def _mebibytes(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else f"{size_bytes >> 20} MiB"
