"""Frames of sound without a gap are joined; samples and times stay the same."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.audio.frame import AudioFrame

from actors.stages import audio_reader
from actors.stages.media_reader import MediaReader
from actors.stages.sound_runs import LONGEST_S, joined
from cluster.contracts.media import LocalVideo, MediaLimits
from tests.support.reported import REPORTED_FILES
from tests.support.sound_files import likeness

LIMITS = MediaLimits(max_duration_s=600, max_pixels=4_000_000, max_fps=60, max_streams=8, max_bytes=10**8)
RATE_HZ = 16_000
SAMPLES = 160
CLIPS = sorted(p for p in (Path(__file__).parents[2] / "cluster/demo/clips").iterdir() if p.suffix != ".json")
CHOSEN_MIX = {"01_out_of_phase.mp4"}
"""Its channels are each other's inverse, and any polarity of them is as good."""
RNG = np.random.default_rng(5)
TYPES = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "flt": np.float32, "dbl": np.float64}


def frame(at_s: float | None, kind: str = "s16", layout: str = "stereo", rate_hz: int = RATE_HZ) -> AudioFrame:
    """10 ms of noise, in milliseconds' time base."""
    made = AudioFrame(kind, layout, SAMPLES)
    count = made.layout.nb_channels
    dtype = TYPES[kind.removesuffix("p")]
    shape = (count, SAMPLES) if kind.endswith("p") else (1, SAMPLES * count)
    noise = RNG.integers(0, 100, shape).astype(dtype)
    made = AudioFrame.from_ndarray(noise, kind, layout)
    made.sample_rate, made.time_base = rate_hz, Fraction(1, 1000)
    made.pts = None if at_s is None else round(at_s * 1000)
    return made


def at(*times_s: float) -> list[AudioFrame]:
    return [frame(time_s) for time_s in times_s]


def lengths(frames: Iterable[AudioFrame]) -> list[tuple[float | None, int]]:
    return [(each.time, each.samples // SAMPLES) for each in joined(frames)]


@pytest.mark.parametrize("kind", ["u8", "s16", "s16p", "s32", "flt", "fltp", "dblp"])
@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_adjacent_frames_become_one_with_the_same_samples(kind: str, layout: str) -> None:
    frames = [frame(n / 100, kind, layout) for n in range(7)]
    (long,) = joined(frames)
    assert np.array_equal(long.to_ndarray(), np.concatenate([each.to_ndarray() for each in frames], axis=1))
    assert (long.time, long.sample_rate, long.format.name) == (0.0, RATE_HZ, kind)
    assert long.layout.name == layout


def test_frames_become_no_longer_than_is_of_use() -> None:
    found = lengths(at(*(n / 100 for n in range(130))))
    assert max(count for _, count in found) * 0.01 <= LONGEST_S
    assert (len(found), sum(count for _, count in found)) == (3, 130)


@pytest.mark.parametrize(
    ("times_s", "expected"),
    [
        ((0.0, 0.01, 0.03, 0.04), [(0.0, 2), (0.03, 2)]),  # a gap
        ((0.0, 0.01, 0.015, 0.025), [(0.0, 2), (0.015, 2)]),  # an overlap
        ((0.0, 0.01, 0.0, 0.01), [(0.0, 2), (0.0, 2)]),  # a clock set back
        ((0.0, 0.011, 0.02, 0.029), [(0.0, 4)]),  # rounded time-stamps
        ((0.0, 0.011, 0.022, 0.033), [(0.0, 2), (0.022, 2)]),  # time-stamps that run ahead of the samples
    ],
)
def test_what_lies_apart_stays_apart(times_s: Sequence[float], expected: list[tuple[float, int]]) -> None:
    assert lengths(at(*times_s)) == expected


@pytest.mark.parametrize(
    "other", [frame(0.01, "fltp"), frame(0.01, "s16", "mono"), frame(0.01, rate_hz=8000), frame(None)]
)
def test_what_is_of_another_kind_or_without_a_time_stays_apart(other: AudioFrame) -> None:
    assert [each.samples for each in joined([frame(0.0), other])] == [SAMPLES, SAMPLES]


def test_layouts_that_cannot_be_made_anew_pass_as_they_are() -> None:
    frames = [frame(0.0, "s16", "10 channels"), frame(0.01, "s16", "10 channels")]
    assert list(joined(frames)) == frames


@pytest.mark.parametrize("clip", [*CLIPS, *REPORTED_FILES], ids=lambda clip: clip.name)
def test_files_sound_as_they_do_without_it(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = MediaReader(LIMITS)
    video = LocalVideo(path=clip, size_bytes=clip.stat().st_size, temporary=False)
    info = reader.probe(video, None)
    once = list(reader.read_speech(video, info))
    monkeypatch.setattr(audio_reader, "joined", iter)
    again = list(reader.read_speech(video, info))
    assert len(once) == len(again)
    for one, other in zip(once, again, strict=True):
        assert one.start_s == pytest.approx(other.start_s, abs=0.0015)
        assert len(one.samples) == len(other.samples)
        if clip.name not in CHOSEN_MIX:
            assert np.array_equal(one.samples, other.samples)
        else:
            assert abs(likeness(one.samples.astype(float), other.samples.astype(float))) > 0.999
