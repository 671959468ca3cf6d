"""An audio track, made whole elsewhere, for the join to interleave."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av.error
import numpy as np

from fanreel.errors import MediaError
from fanreel.mp4.containers import open_mp4
from fanreel.mp4.moov import Track
from fanreel.mp4.sample_entries import mp4a_sample_entry

__all__ = ["AudioTrack", "read_audio"]


@dataclass(frozen=True, slots=True, eq=False)
class AudioTrack:
    """AAC packets in a file: one track, encoded in one piece, so that no join can be heard.

    Attributes:
        path: The file in which the packets lie.
        sample_rate: Samples a second, which are also the ticks of its times.
        channels: 1 or 2.
        config: AudioSpecificConfig.
        offsets: Where each packet lies in the file, int64.
        sizes: Bytes of each packet, uint32.
        packet_samples: Samples that each packet decodes to, the same for all.
        priming_samples: Samples at the start that are not to be heard.
        padding_samples: Samples at the end that are not to be heard.
    """

    path: Path
    sample_rate: int
    channels: int
    config: bytes
    offsets: np.ndarray
    sizes: np.ndarray
    packet_samples: int
    priming_samples: int
    padding_samples: int = 0

    @property
    def seconds(self) -> Fraction:
        """How long what can be heard of it lasts, exact."""
        samples = len(self.sizes) * self.packet_samples - self.priming_samples - self.padding_samples
        return Fraction(samples, self.sample_rate)

    def until(self, seconds: Fraction) -> AudioTrack:
        """Return as much of it, in whole packets, as a film that lasts `seconds` plays."""
        samples = seconds * self.sample_rate + self.priming_samples
        count = -(-samples // self.packet_samples)
        if count >= len(self.sizes):
            return self
        return replace(self, offsets=self.offsets[:count], sizes=self.sizes[:count], padding_samples=0)

    def track(self, *, seconds: Fraction) -> Track:
        """Return it as a track of a film that lasts `seconds`."""
        return Track(
            kind="audio",
            timescale=self.sample_rate,
            sample_entry=mp4a_sample_entry(
                channels=self.channels, sample_rate=self.sample_rate, audio_specific_config=self.config
            ),
            sample_sizes=self.sizes,
            sample_ticks=self.packet_samples,
            composition_ticks=None,
            sync_samples=None,
            start_ticks=self.priming_samples,
            presented_ticks=round(min(seconds, self.seconds) * self.sample_rate),
        )


def read_audio(path: Path) -> AudioTrack:
    """Return the AAC track of an MP4 (.m4a) file.

    Raises:
        MediaError: It is no such file, its packets are not AAC, or there are gaps between them.
    """
    try:
        # PyAV's streams are gone once their container is closed.
        with open_mp4(path) as container:
            stream = container.streams.audio[0]
            packets = [packet for packet in container.demux(stream) if packet.size]
            time_base, context = stream.time_base, stream.codec_context
            name, sample_rate, config = context.name, context.sample_rate, bytes(context.extradata or b"")
            channels = context.layout.nb_channels
    except (av.error.FFmpegError, LookupError, ValueError, OSError) as error:
        raise MediaError(f"{path}: no audio track can be read: {error}") from None
    if name != "aac" or not packets or time_base != Fraction(1, sample_rate):
        raise MediaError(f"{path}: audio must be AAC in MP4 with the sample rate as its time base, not {name}")
    start, samples = packets[0].pts or 0, packets[0].duration or 1024
    times = [packet.pts for packet in packets]
    if start > 0 or times != list(range(start, start + samples * len(packets), samples)):
        raise MediaError(f"{path}: audio must begin at 0 and have no gaps; its first packet begins at {start}")
    return AudioTrack(
        path=path,
        sample_rate=sample_rate,
        channels=channels,
        config=config,
        offsets=np.array([packet.pos for packet in packets], np.int64),
        sizes=np.array([packet.size for packet in packets], np.uint32),
        packet_samples=samples,
        priming_samples=-start,
        padding_samples=max(0, samples - (packets[-1].duration or samples)),
    )
