"""A video's headers, its sound at the right times, and one clear sentence for every bad file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.stages.audio_reader import QUIET_SEARCH_S, WINDOW_S, quietest_place
from actors.stages.media_reader import MediaReader
from cluster.contracts.errors import InvalidVideo
from cluster.contracts.media import SPEECH_RATE_HZ, LocalVideo, MediaInfo, MediaLimits, SpeechWindow
from tests.support.media_files import Recipe, Shot, Sound, cut_off, damage, tone, write_video

LIMITS = MediaLimits(max_duration_s=3600, max_pixels=1_000_000, max_fps=60, max_streams=4, max_bytes=10**8)
SHOTS = [Shot(1.0, 1)]


def reader(limits: MediaLimits = LIMITS) -> MediaReader:
    return MediaReader(limits)


def local(path: Path) -> LocalVideo:
    return LocalVideo(path=path, size_bytes=path.stat().st_size, temporary=False)


def probe(path: Path, limits: MediaLimits = LIMITS) -> MediaInfo:
    return reader(limits).probe(local(path))


def speech(path: Path) -> list[SpeechWindow]:
    return list(reader().read_speech(local(path), probe(path)))


def refusal(path: Path, limits: MediaLimits = LIMITS) -> str:
    with pytest.raises(InvalidVideo) as caught:
        probe(path, limits)
    return str(caught.value)


def loud(window: SpeechWindow, begin_s: float, end_s: float) -> bool:
    """Whether there is sound all through ``[begin_s, end_s)`` of the video, or none at all."""
    begin, end = (round((time_s - window.start_s) * SPEECH_RATE_HZ) for time_s in (begin_s, end_s))
    levels = np.abs(window.samples[begin:end].astype(int)).reshape(-1, 160).max(axis=1)
    assert (levels > 1000).all() or (levels < 300).all()
    return bool(levels[0] > 1000)


# What the probe says


def test_probe_tells_size_rate_duration_and_codecs(tmp_path: Path) -> None:
    path = write_video(tmp_path / "plain.mp4", [Shot(2.0, 1)], [Sound(0.0, tone(2.0))])
    info = probe(path)
    assert (info.width, info.height, info.fps, info.rotation_deg) == (160, 120, 25.0, 0)
    assert (info.duration_s, info.start_s) == (pytest.approx(2.0), 0.0)
    assert (info.video_codec, info.audio_codec) == ("h264", "aac")
    assert info.size_bytes == path.stat().st_size


def test_probe_turns_the_size_of_a_rotated_video(tmp_path: Path) -> None:
    info = probe(write_video(tmp_path / "turned.mp4", SHOTS, recipe=Recipe(rotation_deg=90)))
    assert (info.width, info.height, info.rotation_deg) == (120, 160, 270)


def test_probe_measures_a_duration_that_no_header_states(tmp_path: Path) -> None:
    path = write_video(tmp_path / "stream.mkv", SHOTS, recipe=Recipe(options={"live": "1"}))
    assert probe(path).duration_s == pytest.approx(1.0)


def test_probe_counts_from_the_files_start_not_the_pictures(tmp_path: Path) -> None:
    path = write_video(tmp_path / "late.mkv", SHOTS, [Sound(0.0, tone(2.0))], Recipe(start_s=0.5))
    assert probe(path).start_s == pytest.approx(0.0, abs=0.002)


@pytest.mark.parametrize("name", ["-dash.mp4", "a:b.mp4", "file:x.mp4", "n%03d.mp4", "ü #1?.mp4", "concat:a|b.mp4"])
def test_a_files_name_is_never_an_option_a_pattern_or_a_protocol(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / "plain.mp4", SHOTS).rename(tmp_path / name)
    assert probe(path).width == 160


# What is refused, and the sentence


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.touch()
    assert refusal(path) == "the file is empty"


def test_text_called_mp4_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("This is no video.\n" * 50)
    assert refusal(path) == "not a media file: it holds text"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("list.m3u8", "not a media file: a playlist or a format that is not read"),
        ("list.mp4", "not a media file: it holds text"),
    ],
)
def test_a_playlist_is_refused_and_what_it_names_is_not_opened(tmp_path: Path, name: str, sentence: str) -> None:
    video = write_video(tmp_path / "plain.mp4", SHOTS)
    path = tmp_path / name
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{video}\n#EXT-X-ENDLIST\n")
    assert refusal(path) == sentence


def test_a_concat_script_is_refused(tmp_path: Path) -> None:
    video = write_video(tmp_path / "plain.mp4", SHOTS)
    path = tmp_path / "script.mp4"
    path.write_text(f"ffconcat version 1.0\nfile '{video}'\n")
    assert refusal(path) == "not a media file: a playlist or a format that is not read"


def test_a_file_without_its_index_is_refused(tmp_path: Path) -> None:
    path = cut_off(write_video(tmp_path / "cut.mp4", [Shot(3.0, 1)]), 0.5)
    assert refusal(path) == "the file is cut off or damaged: its index (the moov atom) is missing or damaged"


def test_sound_without_pictures_is_refused(tmp_path: Path) -> None:
    assert refusal(write_video(tmp_path / "song.mp4", [], [Sound(0.0, tone(1.0))])) == (
        "the file has sound but no pictures"
    )


def test_cover_art_is_no_picture(tmp_path: Path) -> None:
    path = write_video(tmp_path / "cover.mp3", [], [Sound(0.0, tone(1.0))], Recipe(audio_codec="libmp3lame"))
    cover = write_video(tmp_path / "cover.mjpeg", [Shot(0.04, 1)], recipe=Recipe(codec="mjpeg", pix_fmt="yuvj420p"))
    path.write_bytes(id3_with_cover(cover.read_bytes()) + path.read_bytes())
    assert refusal(path) == "the file has sound but no pictures, only cover art"


def id3_with_cover(jpeg: bytes) -> bytes:
    """An ID3v2.3 tag with one APIC frame (https://id3.org/id3v2.3.0)."""
    body = b"\0image/jpeg\0\x03\0" + jpeg
    frame = b"APIC" + len(body).to_bytes(4, "big") + b"\0\0" + body
    size = bytes((len(frame) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + size + frame


def test_an_unknown_codec_is_refused_by_its_name(tmp_path: Path) -> None:
    path = write_video(tmp_path / "odd.mp4", SHOTS)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz9"))
    assert refusal(path) == "the pictures' codec zzz9 cannot be decoded"


def test_undecodable_picture_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = write_video(tmp_path / "noise.mov", SHOTS, recipe=Recipe(codec="png", pix_fmt="rgb24"))
    path.write_bytes(path.read_bytes().replace(b"\x89PNG", b"\0\0\0\0"))  # every picture's signature
    assert refusal(path) == "no picture can be decoded (png): Invalid data found when processing input"


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        ({"max_pixels": 10_000}, "the pictures have 160 x 120 pixels, the limit is 10,000 pixels"),
        ({"max_fps": 10.0}, "the video has 25 pictures per second, the limit is 10"),
        ({"max_duration_s": 0.5}, "the video lasts 1.0 s, the limit is 0.5 s"),
        ({"max_streams": 1}, "the file has 2 streams, the limit is 1"),
    ],
)
def test_limits_are_checked_and_named(tmp_path: Path, limit: dict[str, Any], sentence: str) -> None:
    path = write_video(tmp_path / "plain.mp4", SHOTS, [Sound(0.0, tone(1.0))])
    assert refusal(path, replace(LIMITS, **limit)) == sentence


def test_the_size_limit_is_checked_and_named(tmp_path: Path) -> None:
    path = write_video(tmp_path / "plain.mp4", SHOTS)
    size = path.stat().st_size
    assert refusal(path, replace(LIMITS, max_bytes=1000)) == f"the file has {size:,} bytes, the limit is 1,000 bytes"


def test_the_pictures_own_size_counts_not_the_announced_one(tmp_path: Path) -> None:
    path = write_video(tmp_path / "grown.mp4", SHOTS, recipe=Recipe(codec="mjpeg", pix_fmt="yuvj420p", size=(640, 480)))
    small = (160).to_bytes(2, "big") + (120).to_bytes(2, "big")
    path.write_bytes(path.read_bytes().replace((640).to_bytes(2, "big") + (480).to_bytes(2, "big"), small, 1))
    assert refusal(path, replace(LIMITS, max_pixels=100_000)) == (
        "the pictures have 640 x 480 pixels, the limit is 100,000 pixels"
    )


# The sound


def test_sound_lies_at_its_time_in_the_video(tmp_path: Path) -> None:
    sounds = [Sound(1.0, tone(1.0)), Sound(3.0, tone(1.0))]
    [window] = speech(write_video(tmp_path / "gap.mkv", [Shot(4.0, 1)], sounds, Recipe(audio_codec="pcm_s16le")))
    assert window.start_s == pytest.approx(1.0, abs=0.005)
    assert window.duration_s == pytest.approx(3.0, abs=0.01)
    assert [loud(window, t, t + 0.9) for t in (1.05, 2.05, 3.05)] == [True, False, True]


def test_sound_before_the_first_picture_counts_from_the_start(tmp_path: Path) -> None:
    recipe = Recipe(start_s=3.0, audio_codec="pcm_s16le")
    [window] = speech(write_video(tmp_path / "early.mkv", SHOTS, [Sound(0.5, tone(3.5))], recipe))
    assert window.start_s == pytest.approx(0.0, abs=0.005)
    assert window.duration_s == pytest.approx(3.5, abs=0.01)


def test_a_long_silence_in_the_time_stamps_is_not_filled(tmp_path: Path) -> None:
    sounds = [Sound(0.0, tone(1.0)), Sound(100.0, tone(1.0))]
    windows = speech(write_video(tmp_path / "pause.mkv", SHOTS, sounds, Recipe(audio_codec="pcm_s16le")))
    assert [window.start_s for window in windows] == pytest.approx([0.0, 100.0], abs=0.005)
    assert [window.duration_s for window in windows] == pytest.approx([1.0, 1.0], abs=0.01)


def test_any_rate_and_codec_becomes_16_khz_mono(tmp_path: Path) -> None:
    recipe = Recipe(rate_hz=44_100)
    [window] = speech(write_video(tmp_path / "cd.mp4", SHOTS, [Sound(0.0, tone(2.0, 44_100))], recipe))
    assert window.samples.dtype == np.int16
    assert window.duration_s == pytest.approx(2.0, abs=0.05)
    spectrum = np.abs(np.fft.rfft(window.samples[:16_000]))
    assert np.argmax(spectrum) == pytest.approx(440, abs=2)


def test_pictures_without_sound_give_no_windows(tmp_path: Path) -> None:
    path = write_video(tmp_path / "mute.mp4", SHOTS)
    assert probe(path).audio_codec is None
    assert speech(path) == []


def test_joined_recordings_sound_on(tmp_path: Path) -> None:
    parts = [write_video(tmp_path / f"{n}.ts", [Shot(3.0, n)], [Sound(0.0, tone(3.0))]) for n in (1, 2)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    windows = speech(joined)
    assert sum(window.duration_s for window in windows) == pytest.approx(6.0, abs=0.3)


def test_undecodable_part_becomes_silence_in_its_time(tmp_path: Path) -> None:
    recipe = Recipe(audio_codec="flac")
    path = write_video(tmp_path / "hurt.mkv", [Shot(0.2, 1)], [Sound(0.0, noise(6.0))], recipe)
    [window] = speech(damage(path, 0.5, 0.6))
    assert window.duration_s == pytest.approx(6.0, abs=0.1)
    assert 0.05 < (window.samples == 0).mean() < 0.4


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(3).integers(-8000, 8000, round(seconds * SPEECH_RATE_HZ)).astype(np.int16)


def test_undecodable_sound_fails_with_the_reason(tmp_path: Path) -> None:
    recipe = Recipe(audio_codec="flac")
    path = write_video(tmp_path / "noise.mkv", [Shot(0.2, 1)], [Sound(0.0, noise(2.0))], recipe)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\xff\xf8", b"\0\0"))  # every frame's sync code
    with pytest.raises(InvalidVideo, match=r"^nothing of the sound can be decoded \(flac\): "):
        speech(path)


def test_an_unknown_sound_codec_is_refused_by_its_name(tmp_path: Path) -> None:
    path = write_video(tmp_path / "odd.mov", SHOTS, [Sound(0.0, tone(1.0))], Recipe(audio_codec="pcm_s16le"))
    path.write_bytes(path.read_bytes().replace(b"sowt", b"zzz9"))
    assert refusal(path) == "the sound's codec zzz9 cannot be decoded"


def test_long_sound_is_cut_at_its_quietest_place_without_loss(tmp_path: Path) -> None:
    samples = np.tile(noise(1.0), 640)
    quiet = round((WINDOW_S - 12.0) * SPEECH_RATE_HZ)
    samples[quiet : quiet + SPEECH_RATE_HZ // 5] //= 100
    path = write_video(tmp_path / "long.mkv", SHOTS, [Sound(0.0, samples)], Recipe(audio_codec="pcm_s16le"))
    first, second = speech(path)
    assert quiet <= len(first.samples) < quiet + SPEECH_RATE_HZ // 5
    assert second.start_s == pytest.approx(first.start_s + first.duration_s)
    assert np.array_equal(np.concatenate([first.samples, second.samples]), samples)


def test_the_quietest_place_is_looked_for_at_the_end_only() -> None:
    samples = noise(60.0)
    samples[:SPEECH_RATE_HZ] = 0
    samples[45 * SPEECH_RATE_HZ : 46 * SPEECH_RATE_HZ] //= 10
    place = quietest_place(samples, round(QUIET_SEARCH_S * SPEECH_RATE_HZ))
    assert 45 * SPEECH_RATE_HZ <= place < 46 * SPEECH_RATE_HZ
