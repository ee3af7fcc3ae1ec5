"""Speech in any channel of any layout is kept in the mix; ordinary layouts are mixed as FFmpeg mixes them."""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler

from actors.stages.media_reader import MediaReader
from actors.stages.mix_down import mixable
from actors.stages.sound_layout import ChannelOrder, channels_of, disown, order_of
from cluster.contracts.media import SPEECH_RATE_HZ, LocalVideo, MediaLimits
from tests.support.reported import reported
from tests.support.sound_files import RATE_HZ, Signal, hiss, likeness, rumble, voice, write_channels

LIMITS = MediaLimits(max_duration_s=600, max_pixels=1_000_000, max_fps=60, max_streams=8, max_bytes=10**8)
SECONDS = 6.0
VOICE = voice(SECONDS)
MUSIC = np.roll(voice(SECONDS, seed=7), RATE_HZ * 5 // 8)
NOTHING = np.zeros_like(VOICE)
RUMBLE = rumble(SECONDS)


def heard(path: Path) -> Signal:
    reader = MediaReader(LIMITS)
    video = LocalVideo(path=path, size_bytes=path.stat().st_size, temporary=False)
    windows = list(reader.read_speech(video, reader.probe(video)))
    samples = np.concatenate([window.samples for window in windows])
    return np.asarray(samples / 32768, np.float32)


def level(sound: Signal) -> float:
    return float(np.sqrt(np.square(sound).mean()))


def beside_hiss(count: int, at: int) -> list[Signal]:
    return [VOICE if index == at else hiss(SECONDS, index) for index in range(count)]


def delayed(seconds: float) -> Signal:
    return np.roll(VOICE, round(seconds * RATE_HZ))


MIXES = {
    "inverted": ([VOICE, -VOICE], "stereo"),
    "inverted and quieter": ([VOICE, -0.8 * VOICE], "stereo"),
    "one silent": ([NOTHING, VOICE], "stereo"),
    "mono called LFE": ([VOICE], "LFE"),
    "mono called right": ([VOICE], "FR"),
    "centre beside rumble": ([NOTHING, NOTHING, VOICE, RUMBLE, NOTHING, NOTHING], "5.1"),
    "front inverted in 5.1": ([VOICE, -VOICE, NOTHING, RUMBLE, NOTHING, NOTHING], "5.1"),
    "only LFE in 5.1": ([NOTHING, NOTHING, NOTHING, VOICE, NOTHING, NOTHING], "5.1"),
    "height channel": ([*[NOTHING] * 11, VOICE], "7.1.4"),
    "wide and binaural": ([VOICE, -VOICE], "BIL+BIR"),
    "all the same in 24": ([VOICE] * 24, "24 channels"),
    "every other inverted in 16": ([VOICE * (-1) ** index for index in range(16)], "16 channels"),
    "last of three": (beside_hiss(3, 2), "3 channels"),
    "LFE's place of six": (beside_hiss(6, 3), "6 channels"),
    "first of 64": (beside_hiss(64, 0), "64 channels"),
    "beside a loud hum": ([VOICE, hiss(SECONDS, 3, level=0.3), NOTHING], "3 channels"),
    "unlabelled sphere from behind": ([VOICE, NOTHING, NOTHING, -VOICE], "4 channels"),
    **{f"{count} channels": (beside_hiss(count, count // 2), f"{count} channels") for count in (5, 7, 11, 16, 30)},
}


@pytest.mark.parametrize("name", MIXES)
def test_mix_of_any_layout_holds_the_voice(name: str, tmp_path: Path) -> None:
    channels, layout = MIXES[name]
    suffix = "mkv" if "channels" in layout else "mov"
    sound = heard(write_channels(tmp_path / f"sound.{suffix}", channels, layout))
    assert likeness(sound, VOICE) > 0.95
    assert level(sound) > 0.15 * level(VOICE)
    assert len(sound) == pytest.approx(SECONDS * SPEECH_RATE_HZ, abs=SPEECH_RATE_HZ * 0.05)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("late_s", [0.0001, 0.001, 0.02])
def test_mix_of_one_late_channel_holds_the_voice(late_s: float, sign: int, tmp_path: Path) -> None:
    sound = heard(write_channels(tmp_path / "sound.mkv", [VOICE, sign * delayed(late_s)], "stereo"))
    assert likeness(sound, VOICE) > 0.65
    assert level(sound) > 0.15 * level(VOICE)


def test_voice_inverted_beside_music_in_phase_is_kept(tmp_path: Path) -> None:
    channels = [0.5 * (MUSIC + VOICE), 0.5 * (MUSIC - VOICE)]
    assert likeness(heard(write_channels(tmp_path / "sound.mkv", channels, "stereo")), VOICE) > 0.6


def test_two_voices_in_unknown_channels_are_both_kept(tmp_path: Path) -> None:
    other = np.roll(voice(SECONDS, seed=5), RATE_HZ // 2)
    sound = heard(write_channels(tmp_path / "sound.mkv", [VOICE, other, NOTHING], "3 channels"))
    assert min(likeness(sound, VOICE), likeness(sound, other)) > 0.6


def test_voice_that_changes_its_channel_is_followed(tmp_path: Path) -> None:
    long = voice(20.0)
    first = np.where(np.arange(len(long)) < 10 * RATE_HZ, long, 0).astype(np.float32)
    sound = heard(write_channels(tmp_path / "sound.mkv", [first, NOTHING_20_S, long - first], "3 channels"))
    assert likeness(sound, long) > 0.9


def test_channels_cancel_only_at_the_end_and_are_kept(tmp_path: Path) -> None:
    long = voice(20.0)
    sign = np.where(np.arange(len(long)) < 10 * RATE_HZ, 1, -1).astype(np.float32)
    sound = heard(write_channels(tmp_path / "sound.mkv", [long, sign * long], "stereo"))
    assert likeness(sound, long) > 0.9


NOTHING_20_S = np.zeros(20 * RATE_HZ, np.float32)


@pytest.mark.parametrize(
    "codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_s64le", "pcm_f32le", "pcm_f64le"]
)
def test_mix_of_any_kind_of_samples_holds_the_voice(codec: str, tmp_path: Path) -> None:
    path = write_channels(tmp_path / "sound.nut", [NOTHING, VOICE, -VOICE], "3 channels", codec)
    assert likeness(heard(path), VOICE) > 0.95


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_sphere_of_sound_is_heard_from_all_sides(order: int, suffix: str, tmp_path: Path) -> None:
    wide = voice(SECONDS, rate_hz=48_000)
    beside = [-wide if index == 3 else 0.2 * wide for index in range(1, (order + 1) ** 2)]
    options = {"mapping_family": "2"}
    path = write_channels(
        tmp_path / f"sphere.{suffix}", [wide, *beside], f"ambisonic {order}", "libopus", 48_000, options
    )
    assert likeness(heard(path), VOICE_BY_RATE[48_000]) > 0.9


VOICE_BY_RATE = {48_000: voice(SECONDS, rate_hz=48_000)[::3]}


@pytest.mark.parametrize("layout", ["mono", "stereo", "2.1", "quad", "5.1", "5.1(side)", "7.1"])
def test_ordinary_layouts_are_mixed_as_ffmpeg_does(layout: str, tmp_path: Path) -> None:
    count = AudioLayout(layout).nb_channels
    spoken = [
        0.5 * voice(12.0, seed=1 + index // 2, level=0.1) + voice(12.0, 20 + index, level=0.05)
        for index in range(count)
    ]
    path = write_channels(tmp_path / "sound.mov", spoken, layout)
    resampler = AudioResampler(format="s16", layout="mono", rate=SPEECH_RATE_HZ)
    with av.open(str(path)) as container:
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    expected = np.concatenate(
        [frame.to_ndarray()[0] for frame in [*frames, *resampler.resample(None)] if frame is not None]
    )
    assert np.array_equal(np.round(heard(path) * 32768), expected)


# Layouts of a custom order, which PyAV frees twice


def with_labels(path: Path, labels: Sequence[int]) -> Path:
    """The QuickTime file with other labels in its channel descriptions ('chan' atom), of the same number."""
    data = bytearray(path.read_bytes())
    begin = data.index(b"chan") + 8
    tag, _, count = struct.unpack(">III", data[begin : begin + 12])
    assert (tag, count) == (0, len(labels))
    for index, label in enumerate(labels):
        at = begin + 12 + 20 * index
        data[at : at + 4] = struct.pack(">I", label)
    path.write_bytes(data)
    return path


UNUSED, LEFT, RIGHT, CENTRE, LFE = 0, 1, 2, 3, 4


@pytest.mark.parametrize("labels", [[RIGHT, LEFT, LFE, CENTRE], [LFE, CENTRE, UNUSED, LEFT], [UNUSED] * 4])
@pytest.mark.parametrize("at", [0, 3])
def test_custom_order_of_channels_holds_the_voice(labels: list[int], at: int, tmp_path: Path) -> None:
    path = write_channels(tmp_path / "sound.mov", beside_hiss(4, at), "FL+FR+WL+WR")
    for _ in range(3):  # a block that is freed twice is noticed sooner or later
        sound = heard(with_labels(path, labels))
    assert likeness(sound, VOICE) > 0.95


@pytest.mark.parametrize("labels", [[RIGHT, LEFT], [UNUSED, UNUSED], [LFE, LFE]])
@pytest.mark.parametrize("other", [-VOICE, NOTHING], ids=["inverted", "silent"])
def test_two_channels_of_a_custom_order_hold_the_voice(labels: list[int], other: Signal, tmp_path: Path) -> None:
    path = with_labels(write_channels(tmp_path / "sound.mov", [VOICE, other], "WL+WR"), labels)
    assert likeness(heard(path), VOICE) > 0.95


def test_one_channel_of_an_unused_label_is_heard(tmp_path: Path) -> None:
    path = with_labels(write_channels(tmp_path / "sound.mov", [VOICE], "WL"), [UNUSED])
    assert likeness(heard(path), VOICE) > 0.95


def test_frames_of_a_custom_order_are_freed_once(tmp_path: Path) -> None:
    path = write_channels(tmp_path / "sound.mov", beside_hiss(4, 1), "FL+FR+WL+WR")
    with av.open(str(with_labels(path, [RIGHT, LEFT, LFE, CENTRE]))) as container:
        frames = 0
        for frame in container.decode(audio=0):
            assert disown(frame.layout)
            assert not disown(frame.layout)
            assert order_of(frame) is ChannelOrder.CUSTOM
            assert channels_of(frame).shape == (4, frame.samples)
            frames += 1
    assert frames


def test_samples_that_are_no_numbers_do_no_harm() -> None:
    samples = np.stack([VOICE, -VOICE])
    samples[:, 1000:1010] = [[np.nan], [np.inf]]
    frame = av.AudioFrame.from_ndarray(samples, "fltp", "stereo")
    frame.sample_rate = RATE_HZ
    [mixed] = mixable([frame])
    assert mixed.layout.name == "mono"
    assert likeness(np.nan_to_num(channels_of(mixed)[0], posinf=0, neginf=0), VOICE) > 0.95


def test_frames_of_changing_layouts_keep_their_order() -> None:
    frames = []
    for number, layout in enumerate(["mono", "stereo", "stereo", "5.1", "mono", "quad", "3 channels", "stereo"]):
        count = AudioLayout(layout).nb_channels
        frame = av.AudioFrame.from_ndarray(np.zeros((count, 1600), np.float32), "fltp", layout)
        frame.sample_rate, frame.pts = RATE_HZ, 1600 * number
        frames.append(frame)
    mixed = list(mixable(frames))
    assert [frame.pts for frame in mixed] == [1600 * number for number in range(8)]
    assert {frame.samples for frame in mixed} == {1600}


def test_mono_frames_are_handed_on_at_once() -> None:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 160), np.int16), "s16", "mono")
    frame.sample_rate = RATE_HZ

    def endless() -> Iterator[av.AudioFrame]:
        while True:
            yield frame

    assert next(mixable(endless())) is frame


@pytest.mark.parametrize(
    "name",
    [
        "01_out_of_phase.mp4",
        "02_sound71_custom_order.mov",
        "03_unused_channel_labels.mov",
        "04_thirty_channels.mkv",
        "05_ambisonic_opus.mkv",
    ],
)
def test_reported_layouts_are_heard(name: str) -> None:
    assert level(heard(reported(name))) > 0.05
