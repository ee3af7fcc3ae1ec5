"""The lines of defence around FFmpeg, each by itself: what one lets through, the next one must not."""

import ctypes
from dataclasses import replace
from pathlib import Path

import pytest

from actors.stages import media_file
from actors.stages.media_reader import MediaReader
from actors.stages.media_source import MediaSource
from actors.stages.memory_watch import LARGEST_BLOCK_BYTES, _loaded
from actors.stages.mp4_index import check_index
from cluster.contracts.errors import InvalidVideo
from cluster.contracts.media import LocalVideo, MediaLimits
from cluster.storage import FetchLimits
from tests.chaos.watched_network import watched_network
from tests.media_files import Shot, Sound, tone, write_video

LIMITS = MediaLimits(max_duration_s=60, max_pixels=10**6, max_fps=60, max_streams=4, max_bytes=10**8)
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n"


def reader(folder: Path) -> MediaReader:
    return MediaReader(LIMITS, FetchLimits(10**8, 10.0), folder / "scratch")


def test_a_playlist_that_got_through_leads_to_no_other_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_file, "VIDEO_FORMATS", f"{media_file.VIDEO_FORMATS},hls,concat")
    with watched_network({}) as watch:
        path = tmp_path / "list.m3u8"
        path.write_text(PLAYLIST.replace("{port}", str(watch.port)))
        with pytest.raises(InvalidVideo):
            reader(tmp_path).probe(LocalVideo(path, path.stat().st_size, temporary=False))
        assert watch.seen() == []


def test_ffmpeg_gets_no_block_larger_than_the_bound(tmp_path: Path) -> None:
    path = write_video(tmp_path / "plain.mp4", [Shot(0.2, 1)])
    with MediaSource(path):
        for library in [ctypes.CDLL(name) for name in _loaded("/libavutil")]:
            library.av_malloc.restype = ctypes.c_void_p
            library.av_free.argtypes = [ctypes.c_void_p]
            assert library.av_malloc(ctypes.c_size_t(LARGEST_BLOCK_BYTES + 1)) is None
            block = library.av_malloc(ctypes.c_size_t(LARGEST_BLOCK_BYTES // 2))
            assert block is not None
            library.av_free(block)


def announcing(path: Path, atom: bytes, at: int, count: int) -> Path:
    """The file with another number in the first atom of that name."""
    data = bytearray(path.read_bytes())
    place = data.index(atom) + 4 + at
    data[place : place + 4] = count.to_bytes(4, "big")
    path.write_bytes(data)
    return path


def test_an_index_of_billions_of_pictures_is_refused_before_it_is_built(tmp_path: Path) -> None:
    path = write_video(tmp_path / "plain.mp4", [Shot(0.2, 1)])
    check_index(path, LIMITS)
    with pytest.raises(
        InvalidVideo, match=r"announces 2,000,000,\d+ pictures and pieces of sound, the limit is 15,600"
    ):
        check_index(announcing(path, b"stsz", 8, 2_000_000_000), LIMITS)


def test_an_index_of_too_many_streams_is_refused_before_it_is_built(tmp_path: Path) -> None:
    path = write_video(tmp_path / "two.mp4", [Shot(0.2, 1)], [Sound(0.0, tone(0.2))])
    check_index(path, LIMITS)
    with pytest.raises(InvalidVideo, match="has 2 streams, the limit is 1"):
        check_index(path, replace(LIMITS, max_streams=1))


def test_an_index_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "endless.mp4"
    atoms = b"".join([(8).to_bytes(4, "big") + b"udta"] * 100_001)
    path.write_bytes((len(atoms) + 8).to_bytes(4, "big") + b"moov" + atoms)
    with pytest.raises(InvalidVideo, match="more than 100,000 parts"):
        check_index(path, LIMITS)


@pytest.mark.parametrize("key", ["../kept", "/../kept", "a/../../kept"])
def test_nothing_beyond_the_scratch_folder_is_discarded(tmp_path: Path, key: str) -> None:
    kept = tmp_path / "kept"
    (tmp_path / "scratch").mkdir()
    kept.mkdir()
    reader(tmp_path).discard(key)
    reader(tmp_path).discard(str(kept))
    assert kept.is_dir()
