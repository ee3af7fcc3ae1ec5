"""Files that are hostile by what they are or where they are: no media, links, pipes, playlists, strange names."""

import gzip
import io
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.chaos.hostile_file import CUT_OFF, NO_MEDIA, READY, Hostile, either, refused
from tests.chaos.whole_media import whole, whole_bytes


def sparse(path: Path, size: int, begin: bytes = b"") -> None:
    """A file of ``size`` bytes that takes no room: ``begin``, then zeros."""
    path.write_bytes(begin)
    os.truncate(path, size)


def _text(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("video.mp4", bytes(100_000))


def _playlist(path: Path) -> None:
    video = whole(path.with_name("whole.mp4"))
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{video}\n#EXT-X-ENDLIST\n")


def _concat(path: Path) -> None:
    path.write_text(f"ffconcat version 1.0\nfile '{whole(path.with_name('whole.mp4'))}'\n")


def _web_page_before_video(path: Path) -> None:
    path.write_bytes(b"<html><script>alert(1)</script></html>" + whole_bytes(path))


def _video_before_zip(path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("run.exe", b"MZ" * 1000)
    path.write_bytes(whole_bytes(path) + archive.getvalue())


def _not_unicode(path: Path) -> None:
    whole(path.with_name("whole.mp4")).rename(path)


def _endless(path: Path) -> None:
    """Raw pictures, a second's work and more, so that the file can be cut off while it is read."""
    with path.open("wb") as file:
        file.write(b"YUV4MPEG2 W320 H240 F25:1 Ip A1:1 C420mpeg2\n")
        for _ in range(900):
            file.write(b"FRAME\n" + bytes(320 * 240 * 3 // 2))


def _cut_off_soon(path: Path) -> None:
    time.sleep(0.3)  # by then it is being read; nothing reports when
    with path.open("r+b") as file:
        file.truncate(1_000_000)


_NO_REGULAR_FILE = refused(r"not a regular file: .+")
_NOT_MEDIA = refused(NO_MEDIA)
_TEXT = refused("not a media file: it holds text")
_LEADS_ELSEWHERE = refused("not a media file: (a playlist or a format that is not read|it holds text)")

PLACES: dict[str, Hostile] = {
    "empty.mp4": Hostile(Path.touch, refused("the file is empty")),
    "one_byte.mp4": Hostile(lambda path: path.write_bytes(b"\0"), _NOT_MEDIA),
    "text.mp4": Hostile(_text("This is no video.\n" * 50), _TEXT),
    "page.mp4": Hostile(_text("<!DOCTYPE html><html><video src='file:///etc/passwd'></video></html>"), _TEXT),
    "archive.mp4": Hostile(_zip, _NOT_MEDIA),
    "compressed.mp4": Hostile(lambda path: path.write_bytes(gzip.compress(bytes(10**6))), _NOT_MEDIA),
    "program.mp4": Hostile(lambda path: path.write_bytes(b"\x7fELF\2\1\1\0" + bytes(range(256)) * 40), _NOT_MEDIA),
    "playlist.m3u8": Hostile(_playlist, _LEADS_ELSEWHERE),
    "playlist.mp4": Hostile(_playlist, _LEADS_ELSEWHERE),
    "concat.mp4": Hostile(_concat, _LEADS_ELSEWHERE),
    "session.sdp": Hostile(_text("v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"), _LEADS_ELSEWHERE),
    "dash.mpd": Hostile(_text('<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"/>'), _LEADS_ELSEWHERE),
    "picture-%03d.png": Hostile(lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000)), _LEADS_ELSEWHERE),
    "endless-link.mp4": Hostile(lambda path: path.symlink_to("/dev/zero"), _NO_REGULAR_FILE),
    "pipe.mp4": Hostile(os.mkfifo, _NO_REGULAR_FILE),
    "folder.mp4": Hostile(Path.mkdir, refused(r"the folder is empty: .+")),
    "looped-link.mp4": Hostile(
        lambda path: path.symlink_to(path), refused(r"(Too many levels of symbolic links|no such file): .+")
    ),
    "dangling-link.mp4": Hostile(lambda path: path.symlink_to("nowhere.mp4"), refused(r"no such file: .+")),
    "-i %d %n\n\t'$(id)' 🎬.mp4": Hostile(whole, READY),
    os.fsdecode(b"caf\xe9 \xff.mp4"): Hostile(_not_unicode, READY),
    "sparse-200-gb.mp4": Hostile(
        lambda path: sparse(path, 200 * 10**9), refused("the file has 200,000,000,000 bytes, the limit is .* bytes")
    ),
    "zeros.mp4": Hostile(lambda path: sparse(path, 2**31), _NOT_MEDIA),
    "page-before-video.mp4": Hostile(_web_page_before_video, either("not a media file.*")),
    "video-before-archive.mp4": Hostile(_video_before_zip, READY),
    "shrinks.y4m": Hostile(_endless, either(CUT_OFF), _cut_off_soon),
}
