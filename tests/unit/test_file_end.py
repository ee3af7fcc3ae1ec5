"""A header's duration against what the file holds: a wrong one is corrected, a file that was cut off is refused."""

import re
import struct
from pathlib import Path

import pytest

from actors.stages.media_reader import MediaReader
from actors.stages.scene_detector import SceneDetector
from cluster.contracts.errors import InvalidVideo
from cluster.contracts.media import LocalVideo, MediaInfo, MediaLimits
from tests.support.clock_files import Clip, write_clip
from tests.support.media_files import cut_off

LIMITS = MediaLimits(max_duration_s=43_200, max_pixels=1_000_000, max_fps=240, max_streams=16, max_bytes=10**8)
STATED_S = 36_000
CUT_OFF = r"^only \d\.\d s of 3(5999|6000)\.\d s could be read: the file is cut off or damaged$"


def read(path: Path) -> tuple[MediaInfo, float | None]:
    """The probe's result, and the end of the last scene."""
    video = LocalVideo(path, path.stat().st_size, temporary=False)
    info = MediaReader(LIMITS).probe(video)
    [*_, last] = SceneDetector(96, 8, LIMITS, threads=1).detect(video, info)
    return info, last.decoded_duration_s


def overstated(path: Path) -> Path:
    """A clip of six seconds, each with a key frame, whose header states ten hours."""
    fragmented = (("movflags", "frag_keyframe+empty_moov+default_base_moof"),)
    write_clip(path, Clip(6.0, 6.0, options=fragmented if path.suffix == ".mp4" else ()))
    data = bytearray(path.read_bytes())
    for at, number in _durations(path.suffix, bytes(data)):
        data[at : at + len(number)] = number
    path.write_bytes(data)
    return path


def _durations(suffix: str, data: bytes) -> list[tuple[int, bytes]]:
    """Offsets at which a header states a duration, and its bytes for ten hours."""
    if suffix in (".mkv", ".webm"):
        tags = [(at.start(), b"DURATIOX") for at in re.finditer(rb"DURATIOND\x87", data)]
        return [(data.index(b"\x44\x89\x88") + 3, struct.pack(">d", STATED_S * 1000)), *tags]
    if suffix == ".flv":
        return [(data.index(b"duration\0") + 9, struct.pack(">d", STATED_S))]
    if suffix == ".avi":
        header, pictures = data.index(b"avih"), data.index(b"strh")
        frames = struct.pack("<I", STATED_S * 25)
        return [(header + 24, frames), (pictures + 40, frames)]
    if suffix == ".wmv":
        properties = data.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
        preroll_ms = struct.unpack_from("<Q", data, properties + 80)[0]
        return [(properties + 64, struct.pack("<Q", (STATED_S * 1000 + preroll_ms) * 10_000))]
    movie = data.index(b"mvhd") + 4
    scales = [(data.index(b"mdhd") + 4, struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]), (movie, 1000)]
    return [(at + 16, struct.pack(">I", STATED_S * scale)) for at, scale in scales]


SUFFIXES = ["mkv", "webm", "flv", "avi", "wmv", "mp4"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_overstated_duration_of_a_whole_file_is_corrected(suffix: str, tmp_path: Path) -> None:
    info, end_s = read(overstated(tmp_path / f"whole.{suffix}"))
    assert info.duration_s == pytest.approx(6.0, abs=0.2)
    assert end_s == pytest.approx(6.0, abs=0.2)
    [warning] = info.warnings
    assert warning.code == "duration_overstated"
    assert re.fullmatch(r"the header states 3(5999|6000)\.\d s, the file is complete with [56]\.\d s", warning.message)


@pytest.mark.parametrize("suffix", ["mkv", "webm", "flv", "avi", "wmv"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_cut_off_file_is_refused(suffix: str, share: float, tmp_path: Path) -> None:
    with pytest.raises(InvalidVideo, match=CUT_OFF):
        read(cut_off(overstated(tmp_path / f"cut.{suffix}"), share))


@pytest.mark.parametrize("suffix", ["mkv", "flv", "wmv"])
def test_file_whose_second_half_is_empty_is_refused(suffix: str, tmp_path: Path) -> None:
    path = overstated(tmp_path / f"empty.{suffix}")
    size = path.stat().st_size
    path.write_bytes(cut_off(path, 0.5).read_bytes().ljust(size, b"\0"))
    with pytest.raises(InvalidVideo, match=CUT_OFF):
        read(path)


@pytest.mark.parametrize("suffix", ["mkv", "webm", "flv", "avi", "wmv"])
def test_file_that_lacks_its_second_half_is_refused(suffix: str, tmp_path: Path) -> None:
    path = cut_off(write_clip(tmp_path / f"half.{suffix}", Clip(8.0, 8.0)), 0.5)
    with pytest.raises(InvalidVideo, match=r"^only [345]\.\d s of [78]\.\d s could be read: the file is cut off"):
        read(path)


@pytest.mark.parametrize("suffix", ["mkv", "webm", "flv", "avi", "wmv", "fragmented.mp4"])
def test_file_that_lacks_its_last_second_says_so(suffix: str, tmp_path: Path) -> None:
    fragmented = (("movflags", "frag_keyframe+empty_moov+default_base_moof"),)
    clip = Clip(8.0, 8.0, options=fragmented if suffix.startswith("fragmented") else ())
    path = cut_off(write_clip(tmp_path / f"cut.{suffix}", clip), 0.87)
    info, end_s = read(path)
    assert end_s is not None
    assert 5.9 < end_s < 7.7
    [warning] = info.warnings
    assert warning.code == "file_cut_off"
    until = r"at [67]\.\d s( of [78]\.\d s)?"
    said = rf"the file is cut off {until}: what follows is missing"
    if suffix == "flv":  # nothing in it states how many bytes belong to it
        said = rf"the file ends {until}: it is cut off or its header is wrong"
    assert re.fullmatch(said, warning.message)


@pytest.mark.parametrize("suffix", [*SUFFIXES, "ts", "mpg", "mov", "fragmented.mp4"])
def test_whole_file_has_no_warning(suffix: str, tmp_path: Path) -> None:
    fragmented = (("movflags", "frag_keyframe+empty_moov+default_base_moof"),)
    clip = Clip(8.0, 8.0, options=fragmented if suffix.startswith("fragmented") else ())
    assert read(write_clip(tmp_path / f"whole.{suffix}", clip))[0].warnings == ()


@pytest.mark.parametrize("suffix", ["mkv", "avi", "wmv", "mp4", "fragmented.mp4"])
@pytest.mark.parametrize("tail", [b"garbage at the end of a file" * 9, b"\0" * 1000, b"TAG" + b" " * 125])
def test_bytes_after_a_whole_file_are_no_cut(suffix: str, tail: bytes, tmp_path: Path) -> None:
    fragmented = (("movflags", "frag_keyframe+empty_moov+default_base_moof"),)
    clip = Clip(8.0, 8.0, options=fragmented if suffix.startswith("fragmented") else ())
    path = write_clip(tmp_path / f"long.{suffix}", clip)
    path.write_bytes(path.read_bytes() + tail)
    assert read(path)[0].warnings == ()
