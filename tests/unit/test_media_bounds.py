"""The lines of defence around FFmpeg, each alone: what one lets through, the next one must not."""

import ctypes
import io
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import av
import pytest

from actors.stages import media_file, memory_watch, survey
from actors.stages.media_file import Tally, open_media, packets, translated_errors
from actors.stages.media_reader import MediaReader
from actors.stages.media_source import MediaSource
from actors.stages.memory_watch import LARGEST_BLOCK_BYTES, _loaded
from actors.stages.mp4_index import check_index
from cluster.contracts.errors import InvalidVideo, TransientFailure
from cluster.contracts.media import LocalVideo, MediaLimits
from tests.support.media_files import Recipe, Shot, Sound, tone, write_video

LIMITS = MediaLimits(max_duration_s=60, max_pixels=10**6, max_fps=60, max_streams=4, max_bytes=10**8)
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n"


def reader(limits: MediaLimits = LIMITS) -> MediaReader:
    return MediaReader(limits)


def local(path: Path) -> LocalVideo:
    return LocalVideo(path, path.stat().st_size, temporary=False)


class Hanging(socketserver.BaseRequestHandler):
    """Takes note of who connects, and hangs up at once: who waits for an answer in native code cannot be ended."""

    def handle(self) -> None:
        assert isinstance(self.server, Listener)
        self.server.connected += 1


class Listener(socketserver.TCPServer):
    connected = 0


@contextmanager
def listening() -> Iterator[Listener]:
    with Listener(("127.0.0.1", 0), Hanging) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            yield server
        finally:
            server.shutdown()


def test_a_playlist_that_got_through_leads_to_no_other_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_file, "VIDEO_FORMATS", f"{media_file.VIDEO_FORMATS},hls,concat")
    with listening() as server:
        path = tmp_path / "list.m3u8"
        path.write_text(PLAYLIST.replace("{port}", str(server.server_address[1])))
        with pytest.raises(InvalidVideo):
            reader().probe(local(path))
        socket.create_connection(("127.0.0.1", server.server_address[1])).close()  # comes after any earlier connection
        while server.connected == 0:
            time.sleep(0.01)
        assert server.connected == 1


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


def test_index_of_billions_of_pictures_is_refused_unbuilt(tmp_path: Path) -> None:
    path = write_video(tmp_path / "plain.mp4", [Shot(0.2, 1)])
    check_index(path, LIMITS)
    with pytest.raises(
        InvalidVideo, match=r"announces 2,000,000,\d+ pictures and pieces of sound, the limit is 15,600"
    ):
        check_index(announcing(path, b"stsz", 8, 2_000_000_000), LIMITS)


def test_index_of_too_many_streams_is_refused_unbuilt(tmp_path: Path) -> None:
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


def test_probing_judges_the_index_first(tmp_path: Path) -> None:
    path = announcing(write_video(tmp_path / "plain.mp4", [Shot(0.2, 1)]), b"stsz", 8, 2_000_000_000)
    with pytest.raises(InvalidVideo, match="announces"):
        reader().probe(local(path))


def test_streams_of_a_file_without_an_index_are_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "two.mkv", [Shot(0.2, 1)], [Sound(0.0, tone(0.2))])
    assert reader().probe(local(path)).audio_codec is not None
    with pytest.raises(InvalidVideo, match="has 2 streams, the limit is 1"):
        reader(replace(LIMITS, max_streams=1)).probe(local(path))


def test_sound_that_runs_on_past_the_limit_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "late.mp4", [Shot(0.2, 1)], [Sound(0.0, tone(0.5)), Sound(100.0, tone(0.5))])
    video = local(path)
    with pytest.raises(InvalidVideo, match=r"the video lasts 100\.\d s, the limit is 60 s"):
        reader().probe(video)
    info = reader(replace(LIMITS, max_duration_s=600)).probe(video)
    with pytest.raises(InvalidVideo, match="the sound lasts longer than the limit of 60 s"):
        list(reader().read_speech(video, info))


@pytest.mark.parametrize(("bound", "most"), [("MOST_TO_FIRST_PICTURE_BYTES", 100), ("LONGEST_TO_FIRST_PICTURE_S", 0.2)])
def test_what_shows_nothing_for_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, most: float
) -> None:
    path = write_video(tmp_path / "late.mov", [Shot(1.0, 1)], recipe=Recipe(codec="png", pix_fmt="rgb24"))
    path.write_bytes(path.read_bytes().replace(b"\x89PNG", b"\0\0\0\0", 10))
    assert reader().probe(local(path)).width == 160
    monkeypatch.setattr(survey, bound, most)
    with pytest.raises(InvalidVideo, match="no picture can be decoded"):
        reader().probe(local(path))


def test_memory_is_looked_at_whenever_ffmpeg_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_watch, "BETWEEN_CHECKS_S", 0.0)
    path = write_video(tmp_path / "plain.mp4", [Shot(0.2, 1)])
    with MediaSource(path) as source:
        assert len(source.read(16)) == 16
        monkeypatch.setattr(memory_watch, "LARGEST_GROWTH_BYTES", -(2**40))
        with pytest.raises(InvalidVideo, match="takes more than"):
            source.read(16)


def test_memory_is_looked_at_packet_by_packet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_watch, "BETWEEN_CHECKS_S", 0.0)
    path = write_video(tmp_path / "plain.mp4", [Shot(0.4, 1)])
    with open_media(path, LIMITS.max_pixels) as media:
        read = packets(media, [media.container.streams.video[0]], Tally())
        next(read)
        monkeypatch.setattr(memory_watch, "LARGEST_GROWTH_BYTES", -(2**40))
        with pytest.raises(InvalidVideo, match="takes more than"):
            next(read)


def test_of_a_stream_that_nobody_wants_nothing_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(codec="png", pix_fmt="rgb24", size=(640, 480))
    path = write_video(tmp_path / "large.mov", [Shot(2.0, 1)], [Sound(0.0, tone(2.0))], recipe)
    video = local(path)
    info = reader().probe(video)
    read_bytes: list[int] = []

    def counted(source: MediaSource, size: int | None = -1) -> bytes:
        data = io.FileIO.read(source, size or -1) or b""
        read_bytes.append(len(data))
        return data

    monkeypatch.setattr(MediaSource, "read", counted)
    assert sum(len(window.samples) for window in reader().read_speech(video, info)) > 30_000
    assert sum(read_bytes) < path.stat().st_size / 2


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (av.error.InvalidDataError(-1, "damaged"), InvalidVideo),
        (av.error.MemoryError(-12, "too much"), InvalidVideo),
        (MemoryError(), InvalidVideo),
        (OSError(5, "Input/output error"), TransientFailure),
    ],
)
def test_read_error_is_the_files_or_the_machines(error: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="cannot be read"), translated_errors():
        raise error
