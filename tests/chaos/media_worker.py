"""A process in place of a media worker: it takes one file after another along the stages that read media.

Run by ``watched_worker``, which kills it when it overruns and starts another. One line of JSON comes in for each
file and one goes out: how the file ended, and what it left behind in this process and in the decoder that is kept for
the owner's next file. The calls are a media worker's, in their confined decoders; there is no Ray around them.
"""

import json
import math
import os
import resource
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil

from actors.stages.fetcher import Fetcher
from actors.workers.media_calls import SCENES_PER_BLOCK, confined, start_decoder
from cluster.contracts.errors import HeimdexError, WorkerLost
from cluster.contracts.media import SPEECH_RATE_HZ, LocalVideo, MediaInfo, MediaLimits, SceneBlock, SpeechWindow
from cluster.contracts.stages import Stage
from cluster.decoders.process import DecoderProcess
from cluster.files.storage import FetchLimits
from cluster.settings import Settings

THREADS = 2
KEY = "attempt"
READY = "ready"
OWNER = UUID(int=7)
LOOK_EVERY_S = 0.005
LEAVES_WITHIN_S = 1.0


class Walk:
    """The way of one file through the stages of a media worker. All files are one owner's."""

    def __init__(self, limits: MediaLimits, scratch: Path) -> None:
        self.limits = limits
        self.stage = Stage.DOWNLOADING
        self._fetcher = Fetcher(FetchLimits(limits.max_bytes, 60.0), scratch, 1.0)
        decoding = scratch.with_name(scratch.name + "-decoding")
        decoding.mkdir(mode=0o700, exist_ok=True)
        self.decoders = WatchedDecoders(start_decoder(limits, Settings.model_fields["key_frame_px"].default, THREADS))
        self._calls = confined(self.decoders.process, limits, decoding)

    def take(self, uri: str) -> None:
        """Take ``uri`` all the way. Raises whatever a stage raises, AssertionError where what it made is wrong."""
        self.stage = Stage.DOWNLOADING
        video = self._fetcher.fetch(uri, KEY)
        try:
            self._read(replace(video, owner_id=OWNER))
        finally:
            self._fetcher.discard(KEY)

    def _read(self, video: LocalVideo) -> None:
        self.stage = Stage.METADATA
        info = self._calls["probe"](video)
        check_info(info, self.limits)
        self.stage = Stage.TRANSCRIPTION
        check_sound(self._calls["read_speech"](video, info), self.limits)
        self.stage = Stage.SCENE_DETECTION
        check_scenes(self._calls["detect"](video, info), self.limits)


class WatchedDecoders:
    """The decoder process, and what its copies hold: looked at while they work, since a broken one reports nothing."""

    def __init__(self, process: DecoderProcess) -> None:
        self.process = process
        self.peak_bytes = 0
        threading.Thread(target=self._look, daemon=True).start()

    def held(self, outcome: str) -> dict[str, Any] | None:
        """Of the copy that is kept for the next file; None while none is: one that failed is on its way out."""
        for copy in self._copies() if outcome == READY else []:
            with suppress(psutil.Error):
                end_s = time.monotonic() + LEAVES_WITHIN_S
                while copy.num_threads() > 1 and time.monotonic() < end_s:
                    time.sleep(0.01)
                if files := copy.num_fds():  # none: it has ended
                    held = {"files": files, "os_threads": copy.num_threads(), "data_limit": _data_limit(copy)}
                    return {"pid": copy.pid, **held}
        return None

    def _copies(self) -> list[psutil.Process]:
        try:
            return [] if self.process.pid is None else psutil.Process(self.process.pid).children()
        except psutil.NoSuchProcess:
            return []

    def _look(self) -> None:
        while True:
            for copy in self._copies():
                with suppress(psutil.Error):
                    self.peak_bytes = max(self.peak_bytes, copy.memory_info().rss)
            time.sleep(LOOK_EVERY_S)


def _data_limit(process: psutil.Process) -> tuple[int, int]:
    soft, hard = process.rlimit(resource.RLIMIT_DATA)
    return soft, hard


def check_info(info: MediaInfo, limits: MediaLimits) -> None:
    """Check that each number written into the database is finite and within the limits."""
    stated = [info.start_s, info.fps, *([] if info.duration_s is None else [info.duration_s])]
    assert all(math.isfinite(number) for number in stated), f"not finite: {info}"
    assert info.width > 0, info
    assert info.height > 0, info
    assert info.width * info.height <= limits.max_pixels, info
    assert info.duration_s is None or 0 <= info.duration_s <= limits.max_duration_s, info
    assert info.video_codec.isprintable(), info


def check_sound(windows: Iterable[SpeechWindow], limits: MediaLimits) -> None:
    """``windows`` follow one another and hold together what the limit allows."""
    end_s, total_s = -math.inf, 0.0
    for window in windows:
        assert math.isfinite(window.start_s), window.start_s
        assert window.start_s >= end_s - 1 / SPEECH_RATE_HZ, (window.start_s, end_s)
        assert len(window.samples) > 0
        end_s = window.start_s + window.duration_s
        total_s += window.duration_s
    assert total_s <= limits.max_duration_s + 60.0, total_s


def check_scenes(blocks: Iterable[SceneBlock], limits: MediaLimits) -> None:
    """Scenes tile the video and are bounded."""
    end_s, count, decoded_s = 0.0, 0, None
    for block in blocks:
        assert decoded_s is None, "a block after the last one"
        assert len(block.scenes) <= SCENES_PER_BLOCK
        decoded_s = block.decoded_duration_s
        for scene in block.scenes:
            assert (scene.index, scene.start_s) == (count, end_s), scene
            assert scene.start_s <= scene.key_frame_s < scene.end_s, scene
            assert scene.key_frame.shape[2] == 3
            end_s, count = scene.end_s, count + 1
    assert count > 0
    assert decoded_s == end_s, (decoded_s, end_s)
    assert end_s <= limits.max_duration_s + 60.0, end_s


def _answer(walk: Walk, uri: str) -> dict[str, Any]:
    started_s = time.monotonic()
    _forget_peak()
    walk.decoders.peak_bytes = 0
    answer = {"outcome": READY, "message": ""}
    try:
        walk.take(uri)
    except WorkerLost as error:
        answer = {"outcome": "died", "message": f"its decoder: {error}"}
    except HeimdexError as error:
        answer = {"outcome": type(error).__name__, "message": str(error)}
    except Exception as error:
        where = traceback.format_exc()
        answer = {"outcome": "defect", "message": f"{type(error).__name__}: {error}", "traceback": where}
    return {**answer, "stage": walk.stage, "seconds": time.monotonic() - started_s}


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise LookupError(name)


def _threads(expected: int) -> int:
    """Number of threads; one that was waited for may be on its way out for a moment longer."""
    end_s = time.monotonic() + LEAVES_WITHIN_S
    while (threads := _status("Threads")) > expected and time.monotonic() < end_s:
        time.sleep(0.01)
    return threads


def _held(scratch: Path, threads: int, decoders: WatchedDecoders, outcome: str = "") -> dict[str, Any]:
    return {
        "decoder": decoders.held(outcome),
        "peak_bytes": max(_status("VmHWM") * 1024, decoders.peak_bytes),
        "os_threads": _threads(threads),
        "python_threads": threading.active_count(),
        "files": sorted(file for file in _open_files() if not _is_of_decoders(file)),
        "pipes": sum(map(_is_of_decoders, _open_files())),
        "data_limit": resource.getrlimit(resource.RLIMIT_DATA),
        "temporary": [str(path.relative_to(scratch)) for path in scratch.rglob("*")] if scratch.exists() else [],
    }


def _open_files() -> Iterable[str]:
    for link in Path("/proc/self/fd").iterdir():
        try:
            yield str(link.readlink())
        except FileNotFoundError:
            continue  # the one that this loop itself holds open


def _is_of_decoders(file: str) -> bool:
    """Whether it may be how a decoder is reached, or what ``WatchedDecoders`` looks at for a moment."""
    return file.startswith(("pipe:", "anon_inode:[pidfd]", "/proc")) or "-decoding/" in file


def main() -> None:
    """Answer one line of JSON per line of JSON, until there are no more."""
    scratch, limits = Path(sys.argv[1]), MediaLimits(**json.loads(sys.argv[2]))
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    walk = Walk(limits, scratch)
    held = _held(scratch, _status("Threads"), walk.decoders)
    answers.write(json.dumps(held) + "\n")
    for line in sys.stdin:
        answer = _answer(walk, json.loads(line))
        held = _held(scratch, held["os_threads"], walk.decoders, answer["outcome"])
        answers.write(json.dumps({**answer, "held": held}) + "\n")


if __name__ == "__main__":
    main()
