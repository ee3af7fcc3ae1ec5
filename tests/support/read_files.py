"""The stages' results for a file: duration, scenes and sound on its one clock, for tests that know what is right."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from actors.stages.media_reader import MediaReader
from actors.stages.scene_detector import SceneDetector
from cluster.contracts.media import SPEECH_RATE_HZ, LocalVideo, MediaInfo, MediaLimits, SceneBlock, SpeechWindow
from tests.support.clock_files import onsets_s

LIMITS = MediaLimits(max_duration_s=43_200, max_pixels=1_000_000, max_fps=240, max_streams=16, max_bytes=10**8)


@dataclass(frozen=True)
class Read:
    """The stages' results for a file."""

    info: MediaInfo
    windows: list[SpeechWindow]
    blocks: list[SceneBlock]

    @property
    def starts_s(self) -> list[float]:
        return [scene.start_s for block in self.blocks for scene in block.scenes]

    @property
    def end_s(self) -> float:
        [*_, last] = [scene for block in self.blocks for scene in block.scenes]
        assert last.end_s == self.blocks[-1].decoded_duration_s
        return last.end_s

    @property
    def first_key_frame_s(self) -> float:
        return self.blocks[0].scenes[0].key_frame_s

    @property
    def beeps_s(self) -> list[float]:
        return onsets_s([(window.start_s, window.samples) for window in self.windows], SPEECH_RATE_HZ)

    def loudness(self, begin_s: float, end_s: float) -> float:
        """Root mean square of the sound in a stretch of time."""
        [window] = self.windows
        begin, end = (max(0, round((time_s - window.start_s) * SPEECH_RATE_HZ)) for time_s in (begin_s, end_s))
        samples = window.samples[begin:end].astype(float)
        return float(np.sqrt((samples**2).mean())) if len(samples) else 0.0


def read(path: Path) -> Read:
    video = LocalVideo(path, path.stat().st_size, temporary=False)
    reader = MediaReader(LIMITS)
    info = reader.probe(video)
    detector = SceneDetector(96, 8, LIMITS, threads=1)
    return Read(info, list(reader.read_speech(video, info)), list(detector.detect(video, info)))


@dataclass(frozen=True)
class Expected:
    """The time for which a player shows a file, and the times at which pictures change and it beeps."""

    duration_s: float
    cuts_s: tuple[float, ...] = ()
    beeps_s: tuple[float, ...] = ()
    within_s: float = 0.1


def assert_read(path: Path, expected: Expected) -> Read:
    found = read(path)
    assert found.info.duration_s == pytest.approx(expected.duration_s, abs=expected.within_s)
    assert found.end_s == pytest.approx(expected.duration_s, abs=expected.within_s)
    assert found.starts_s == pytest.approx([0.0, *expected.cuts_s], abs=expected.within_s)
    assert found.beeps_s == pytest.approx(list(expected.beeps_s), abs=expected.within_s)
    return found
