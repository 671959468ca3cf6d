"""Doctor, the GPUs: which there are, what each really encodes, who uses it now, and what it may be used for.

What a GPU can do is asked of its driver, and tried; nothing rests on a list of names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from fanreel.errors import (
    EncoderError,
    NoEncodeDeviceError,
    SessionBusyError,
    SessionLimitError,
    StorageError,
)
from fanreel.host.diagnosis import Diagnosis
from fanreel.host.host import Host
from fanreel.sessions.devices import Device
from fanreel.sessions.gpu_status import GpuStatus, list_nvml_gpus, read_driver_version, read_status
from fanreel.sessions.gpus import nvml_is_open
from fanreel.sessions.messages import NVENC_CODECS, CodecRequest, CodecWorks

__all__ = ["diagnose_gpus"]

PROBE_SECONDS = 30.0


def diagnose_gpus(host: Host) -> Iterator[Diagnosis]:
    """Yield whether NVENC can be used here, then what was found of each GPU."""
    try:
        found = host.devices.found()
    except StorageError as error:  # the locks cannot be used
        yield Diagnosis("nvenc", False, str(error))
        return
    working = [device for device, error in found if error is None]
    if working:
        yield Diagnosis("nvenc", True, f"{_counted(len(working), 'GPU')} encoded test frames")
    elif found:
        yield Diagnosis("nvenc", False, f"of {_counted(len(found), 'GPU')} none can be used; why not is said below")
    else:
        yield Diagnosis("nvenc", False, str(host.devices.why_no_gpu()))
    if found and not nvml_is_open():
        yield Diagnosis(
            "nvml", None, "missing: memory and other programs' sessions are not known; install the driver whole"
        )
    for device, error in found:
        yield from _diagnose_gpu(host, device, error)
    yield from _diagnose_hidden({device.gpu for device, _ in found})


def _diagnose_gpu(host: Host, device: Device, error: EncoderError | None) -> Iterator[Diagnosis]:
    status = read_status(device.gpu)
    facts = [device.name, f"driver {read_driver_version() or 'of unknown version'}", *_describe_state(status)]
    if isinstance(error, NoEncodeDeviceError):
        yield Diagnosis("gpu", None, f"{', '.join(facts)}: it has no encoder that can be used: {error}")
        return
    if error is not None:
        yield Diagnosis("gpu", False, f"{', '.join(facts)}: {error}")
        return
    tried = [(codec, *_try_codec(host, device, codec)) for codec in NVENC_CODECS]
    engines = next((engines for _, _, _, engines in tried if engines), None)
    yield Diagnosis("gpu", True, ", ".join([*facts, _counted(engines, "NVENC engine")]))
    for codec, works, said, _ in tried:
        yield Diagnosis(codec.removesuffix("_nvenc"), works, f"{device.gpu}: {said}")
    yield Diagnosis("in use", None, f"{device.gpu}: {_describe_use(status)}")
    allowed = f"{device.gate.capacity} sessions at once ({device.capacity_reason})"
    advice = "; `fanreel calibrate` measures how many are best" if "not calibrated" in allowed else ""
    yield Diagnosis("allowed", None, f"{device.gpu}: {allowed}{advice}")


def _diagnose_hidden(shown: set[str]) -> Iterator[Diagnosis]:
    """Yield the GPUs that NVML sees and CUDA does not show."""
    split = any(uuid.startswith("MIG-") for uuid in shown)
    for uuid in list_nvml_gpus():
        status = read_status(uuid)
        if uuid in shown or status is None:
            continue
        why = "split into instances (MIG)" if status.mig else "not shown to this process (CUDA_VISIBLE_DEVICES)"
        if status.mig and not split:
            why += ", none of which is shown to this process"
        yield Diagnosis("gpu", None, f"{status.name} ({uuid}): {why}")


def _describe_state(status: GpuStatus | None) -> list[str]:
    if status is None:
        return []
    facts = ["a MIG instance" if status.uuid.startswith("MIG-") else "MIG on"] if status.mig else []
    if status.used_bytes is not None and status.total_bytes is not None:
        facts.append(f"{status.used_bytes >> 20} of {status.total_bytes >> 20} MiB in use")
    return facts


def _describe_use(status: GpuStatus | None) -> str:
    if status is None or status.sessions is None:
        return f"encoder sessions are not known ({status.encoder_fault if status else 'NVML does not know this GPU'})"
    busy = "" if status.encoder_percent is None else f", encoders {status.encoder_percent} % busy"
    owners = Counter(str(session) for session in status.sessions)
    whose = ", ".join(f"{count} of {owner}" for owner, count in owners.items())
    return (
        f"{_counted(len(status.sessions), 'encoder session')} now: {whose}" if whose else "no encoder session now"
    ) + busy


def _counted(count: int | None, noun: str) -> str:
    return f"an unknown number of {noun}s" if not count else f"1 {noun}" if count == 1 else f"{count} {noun}s"


def _try_codec(host: Host, device: Device, codec: str) -> tuple[bool | None, str, int | None]:
    """Return whether a codec really works, in words too, and how many engines the session says there are."""
    works, engines = False, None
    seconds = min(PROBE_SECONDS, host.settings.hang_seconds)
    try:
        with device.gate.hold(timeout_seconds=0) as slot, host.launcher.start(locks=slot.filenos()) as session:
            for message in session.render(CodecRequest(codec, device.gpu), hang_seconds=seconds):
                works = works or isinstance(message, CodecWorks)
                engines = message.engines if isinstance(message, CodecWorks) else engines
    except (SessionBusyError, SessionLimitError) as error:
        return (works or None), f"not tried, every session is in use now: {error}", None
    except EncoderError as error:
        return works, "encoded test frames" if works else str(error), None
    return works, "encoded test frames", engines
