"""How near a stream comes to the frames that it was made from: VMAF, CAMBI, PSNR and SSIM by ffmpeg's filters."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over a film, and what its worst frames have.

    Attributes:
        vmaf: Mean of the model vmaf_v0.6.1.
        vmaf_low: What 99 of 100 frames reach.
        psnr: Mean over frames of the luma's, dB.
        ssim: Mean over frames of the luma's.
        psnr_frames: Of each frame, dB, luma.
        cambi: Mean of what bands are seen: 0 is none, from 5 on they annoy. Of those frames that VMAF looks at.
        cambi_worst: Of the worst of these frames.
    """

    vmaf: float
    vmaf_low: float
    psnr: float
    ssim: float
    psnr_frames: list[float]
    cambi: float
    cambi_worst: float


def measure_quality(stream: Path, raw: Path, *, size: str, subsample: int) -> Quality:
    """Return the quality of a raw H.264 stream against raw 4:2:0 frames.

    Args:
        stream: Parameter sets and packets.
        raw: The frames that were encoded, all of them.
        size: Of a frame, as 1920x1080.
        subsample: VMAF looks at every n-th frame; PSNR and SSIM look at all.
    """
    with tempfile.TemporaryDirectory() as folder:
        graph = (
            "[0:v]settb=1/30,setpts=N[coded];[1:v]settb=1/30,setpts=N,split=3[one][two][three];"
            f"[coded][one]psnr=stats_file={folder}/psnr[a];[a][two]ssim=stats_file={folder}/ssim[b];"
            f"[b][three]libvmaf=feature=name=cambi:n_threads=1:n_subsample={subsample}:log_fmt=json:log_path={folder}/vmaf"
        )
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin"]
        command += ["-threads", "1", "-f", "h264", "-i", str(stream)]
        command += ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", size, "-i", str(raw)]
        command += ["-filter_complex_threads", "1", "-lavfi", graph, "-f", "null", "-"]
        subprocess.run(command, check=True)
        frames = json.loads(Path(folder, "vmaf").read_text())["frames"]
        vmaf = sorted(frame["metrics"]["vmaf"] for frame in frames)
        cambi = [frame["metrics"]["cambi"] for frame in frames]
        psnr = _column(Path(folder, "psnr"), "psnr_y")
        ssim = _column(Path(folder, "ssim"), "Y")
    return Quality(
        vmaf=sum(vmaf) / len(vmaf),
        vmaf_low=vmaf[len(vmaf) // 100],
        psnr=sum(psnr) / len(psnr),
        ssim=sum(ssim) / len(ssim),
        psnr_frames=psnr,
        cambi=sum(cambi) / len(cambi),
        cambi_worst=max(cambi),
    )


def _column(path: Path, name: str) -> list[float]:
    return [min(float(value), 99.0) for value in re.findall(rf"\b{name}:([0-9.inf]+)", path.read_text())]
