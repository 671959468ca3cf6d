"""An audio track made elsewhere, whole, as the join takes it in."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np

from fanreel.errors import MediaError
from fanreel.media.moov import Track
from fanreel.media.sample_entries import mp4a_sample_entry

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
    """

    path: Path
    sample_rate: int
    channels: int
    config: bytes
    offsets: np.ndarray
    sizes: np.ndarray
    packet_samples: int
    priming_samples: int

    @property
    def seconds(self) -> Fraction:
        """What can be heard of it, exact."""
        return Fraction(len(self.sizes) * self.packet_samples - self.priming_samples, self.sample_rate)

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
        MediaError: It is no such file, or its packets are not AAC.
    """
    try:
        with av.open(str(path), options={"protocol_whitelist": "file"}, format="mp4") as container:
            stream = container.streams.audio[0]
            packets = [packet for packet in container.demux(stream) if packet.size]
            context = stream.codec_context
            config = bytes(context.extradata or b"")
    except (av.error.FFmpegError, IndexError, OSError) as error:
        raise MediaError(f"{path}: no audio track can be read: {error}") from None
    if context.name != "aac" or not packets or stream.time_base != Fraction(1, context.sample_rate):
        raise MediaError(f"{path}: audio must be AAC in MP4 with the sample rate as its time base, not {context.name}")
    return AudioTrack(
        path=path,
        sample_rate=context.sample_rate,
        channels=context.layout.nb_channels,
        config=config,
        offsets=np.array([packet.pos for packet in packets], np.int64),
        sizes=np.array([packet.size for packet in packets], np.uint32),
        packet_samples=packets[0].duration or 1024,
        priming_samples=max(0, -(packets[0].pts or 0)),
    )
