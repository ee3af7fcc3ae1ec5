"""Decoders that do what a broken one might: for the tests of the process around them."""

import ctypes
import fcntl
import itertools
import os
import resource
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cluster.contracts.events import Event
from cluster.contracts.media import DetectedScene, LocalVideo, MediaInfo, MediaWarning, SceneBlock, SpeechWindow
from cluster.decoders.config import FRAME, Decoders
from cluster.decoders.sandbox import readable_code
from cluster.security.event_log import EventLog

logger = EventLog("actors.test")


class Surprise:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self._path,))


def load(readable: Path | None = None) -> Decoders:
    """Calls that try to reach what is none of theirs."""
    calls: dict[str, Callable[..., Any]] = {
        "echo": lambda value: value,
        "pid": os.getpid,
        "count": _count,
        "linger": _linger,
        "environment": lambda: Path("/proc/self/environ").read_bytes() + repr(dict(os.environ)).encode(),
        "read": lambda path: Path(path).read_bytes(),
        "write": lambda path: Path(path).write_text("written"),
        "connect": lambda port: socket.socket().connect(("127.0.0.1", port)),
        "run": lambda: subprocess.run(["true"], check=True).returncode,
        "kill": lambda pid: os.kill(pid, 9),
        "privileges": lambda: ctypes.CDLL(None).prctl(39, 0, 0, 0, 0),
        "hang": lambda fill_bytes=0: list(_linger(fill_bytes)),
        "fill": _fill,
        "spin": _spin,
        "grow": lambda: len(bytearray(2**30)),
        "crash": lambda fill_bytes=0: (_fill(fill_bytes), ctypes.string_at(0)),
        "remember": _remember,
        "answer": _answer_raw,
        "log": lambda failed: logger.warning(Event.SOUND_SKIPPED, failed=failed),
        "say": lambda written: os.write(2, written),
        "repeat": lambda count: itertools.repeat(bytes(2**20 - 64), count),
    }
    return Decoders(calls, _readable(readable), memory_bytes=512 * 2**20, cpu_s=1)


def _readable(readable: Path | None) -> Any:
    return None if readable is None else lambda *_: [readable, Path("/proc/self")]


def _count(most: int) -> Iterator[int]:
    yield from range(most)


def _answer_raw(kind: bytes, announced: int, content: bytes) -> None:
    """Write an answer of any bytes, announced as any length, where this copy's answers go; then end."""
    pipes = [number for number in range(3, 64) if _is_written_to(number)]
    os.write(pipes[0], FRAME.pack(kind, announced) + content)
    os._exit(0)


def _is_written_to(descriptor: int) -> bool:
    try:
        return fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
    except OSError:
        return False


_filled: list[bytes] = []


def _fill(count: int) -> int:
    """Hold so many bytes until this process ends."""
    _filled.append(b"1" * count)
    return len(_filled[-1])


def _linger(fill_bytes: int = 0) -> Iterator[int]:
    _fill(fill_bytes)
    yield 0
    time.sleep(600)


def _spin() -> None:
    while True:
        pass


_REMEMBERED: list[str] = []


def _remember(word: str) -> list[str]:
    _REMEMBERED.append(word)
    return _REMEMBERED


def _look(video: LocalVideo, *others: Path) -> tuple[int, str, bytes, list[str]]:
    """This process, the name of the video here, its bytes, and what reading other files answers."""
    told = []
    for other in others:
        try:
            told.append(other.read_text())
        except OSError as error:
            told.append(str(error.strerror))
    return os.getpid(), video.path.name, video.path.read_bytes(), told


def owners() -> Decoders:
    """Calls on files, each of which it may read."""
    calls: dict[str, Callable[..., Any]] = {
        "look": _look,
        "fail": _fail,
        "die": lambda _: os._exit(1),
        "page_faults": _page_faults,
        "hold": _hold,
    }
    return Decoders(calls, readable=lambda video, *_: [video.path, *readable_code()])


def _page_faults(video: LocalVideo) -> int:
    """Of a call that fills 8 MiB and returns them."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    len(video.path.read_bytes() * (2 * 2**20))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


_held: list[bytes] = []


def _hold(_: LocalVideo, mib: int) -> int:
    """A file that has its decoder lose memory."""
    _held.append(b"1" * (mib * 2**20))
    return os.getpid()


def _fail(video: LocalVideo) -> None:
    raise ValueError(video.path.name)


def endless_media() -> Decoders:
    """A media worker's calls, which answer values of the right types that no file has."""
    info = MediaInfo(1e300, 0.0, 25.0, 64, 36, 0, "h264", None, 1)
    scene = DetectedScene(0, 0.0, 1e300, 0.0, np.zeros((1, 1, 3), np.uint8))
    calls: dict[str, Callable[..., Any]] = {
        "probe": lambda *_: info,
        "read_speech": lambda *_: iter([SpeechWindow(-1e300, np.zeros(1, np.int16))]),
        "detect": lambda *_: iter([SceneBlock((scene,))]),
    }
    return Decoders(calls, readable=lambda *_: readable_code())


def media() -> Decoders:
    """A media worker's calls, which answer what they should not."""
    window = SpeechWindow(0.0, np.zeros((1, 1, 4), np.uint8))  # type: ignore[arg-type]
    return Decoders(
        {
            "probe": lambda *_: "a film",
            "read_speech": lambda *_: iter([window]),
            "detect": lambda *_: iter([MediaWarning("a", "b")]),
        },
        readable=lambda *_: readable_code(),
    )
