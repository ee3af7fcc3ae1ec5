"""Videos that are decoded in a process of their own: what it answers, and what it is kept from."""

import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import psutil
import pytest

from actors.workers.catalog import _MediaLoader
from actors.workers.configs import MediaConfig
from actors.workers.media_calls import ANSWERS, SCENES_PER_BLOCK, confined, decoding_calls, start_decoder
from cluster.contracts.errors import InvalidVideo, MalformedResult, SourceChanging, WorkerLost
from cluster.contracts.media import LocalVideo, MediaLimits
from cluster.decoders.config import DecoderConfig
from cluster.decoders.process import DecoderProcess
from cluster.files.storage import FetchLimits
from tests.chaos.mutated_media import mutated_files
from tests.support.media_files import Shot, write_video

DAMAGED = 60
LIMITS = MediaLimits(max_duration_s=600, max_pixels=10**7, max_fps=240, max_streams=8, max_bytes=10**9)


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderProcess]:
    started = start_decoder(LIMITS, 64, 1)
    yield started
    started.close()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> LocalVideo:
    path = write_video(tmp_path_factory.mktemp("film") / "a.mp4", [Shot(2.0, 1), Shot(2.0, 2)])
    return LocalVideo(path, path.stat().st_size, temporary=False)


def test_confined_calls_answer_as_the_calls_themselves(decoder: DecoderProcess, video: LocalVideo) -> None:
    plain, within = decoding_calls(LIMITS, 64, 1), confined(decoder, LIMITS)
    info = within["probe"](video)
    assert info == plain["probe"](video)
    for ours, theirs in zip(within["detect"](video, info), plain["detect"](video, info), strict=True):
        assert (ours.decoded_duration_s, ours.warnings) == (theirs.decoded_duration_s, theirs.warnings)
        for one, other in zip(ours.scenes, theirs.scenes, strict=True):
            assert (one.start_s, one.end_s, one.key_frame_s) == (other.start_s, other.end_s, other.key_frame_s)
            assert np.array_equal(one.key_frame, other.key_frame)
            assert one.key_frame.flags.writeable
    heard = [window.samples for window in within["read_speech"](video, info)]
    assert len(heard) == len(list(plain["read_speech"](video, info)))
    assert decoder.peak_memory_bytes > 20 * 2**20


def test_confined_errors_keep_their_meaning(decoder: DecoderProcess, tmp_path: Path) -> None:
    within = confined(decoder, LIMITS)
    broken = tmp_path / "a.mp4"
    broken.write_bytes(b"\0\0\0\x14ftypisom\0\0\0\0isom" + bytes(5000))
    os.utime(broken, (0, 0))
    with pytest.raises(InvalidVideo):
        within["probe"](LocalVideo(broken, broken.stat().st_size, temporary=True))
    with pytest.raises(SourceChanging) as caught:
        within["probe"](LocalVideo(broken, 7, temporary=False, modified_ns=1))
    assert caught.value.retry_after_s > 0


def test_media_decoder_is_copied_from_one_thread(decoder: DecoderProcess) -> None:
    assert decoder.pid is not None
    assert psutil.Process(decoder.pid).num_threads() == 1


def test_decoder_that_dies_costs_its_own_video_alone(decoder: DecoderProcess, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [Shot(0.7, number) for number in range(2 * SCENES_PER_BLOCK + 2)])
    video = LocalVideo(path, path.stat().st_size, temporary=False)
    within = confined(decoder, LIMITS)
    info = within["probe"](video)
    parts = within["detect"](video, info)  # of more scenes than a pipe holds: it waits until they are taken
    assert next(parts).scenes
    assert decoder.pid is not None
    (working,) = psutil.Process(decoder.pid).children()
    os.kill(working.pid, signal.SIGKILL)
    with pytest.raises(WorkerLost):
        list(parts)
    assert within["probe"](video) == info


@pytest.mark.parametrize("odd_calls", ["media", "endless_media"])
def test_media_worker_answers_only_what_is_promised(odd_calls: str) -> None:
    odd = DecoderProcess(DecoderConfig(f"tests.support.odd_decoders:{odd_calls}"), ANSWERS)
    within, video, nothing = confined(odd, LIMITS), LocalVideo(Path("none.mp4"), 0, temporary=True), None
    for name in ("read_speech", "detect"):
        with pytest.raises(MalformedResult):
            list(within[name](video, nothing))
    with pytest.raises(MalformedResult):
        within["probe"](video)
    odd.close()


def test_media_worker_decodes_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch, video: LocalVideo) -> None:
    monkeypatch.setenv("HEIMDEX_DATABASE_URL", "postgresql://user:a-secret-of-the-test@host/db")
    before = {child.pid for child in psutil.Process().children()}
    worker = _MediaLoader(MediaConfig(LIMITS, FetchLimits(10**6, 10.0), 64, 1), confine=True)()
    (decoder,) = [child for child in psutil.Process().children() if child.pid not in before]
    assert worker.forgets
    assert worker.calls["probe"](worker.calls["locate"](str(video.path))).width == 160
    assert "a-secret-of-the-test" not in str(decoder.environ())
    assert worker.peak_memory_bytes() > 0
    assert socket.AF_INET not in {connection.family for connection in decoder.net_connections()}


@pytest.mark.parametrize("owner_id", [None, UUID(int=7)], ids=["in place", "copied"])
def test_small_files_are_copied_and_answer_the_same(
    decoder: DecoderProcess, video: LocalVideo, tmp_path: Path, owner_id: UUID | None
) -> None:
    file = LocalVideo(video.path, video.size_bytes, False, video.path.stat().st_mtime_ns, owner_id)
    plain, within = decoding_calls(LIMITS, 64, 1), confined(decoder, LIMITS, tmp_path)
    info = within["probe"](file)
    assert info == plain["probe"](video)
    assert bool(list(tmp_path.iterdir())) == (owner_id is not None)
    seen, sought = (
        [(scene.start_s, scene.key_frame.tobytes()) for block in blocks for scene in block.scenes]
        for blocks in (within["detect"](file, info), plain["detect"](video, info))
    )
    assert seen == sought
    grown = LocalVideo(video.path, video.size_bytes - 1, False, file.modified_ns, owner_id)
    with pytest.raises(SourceChanging):
        within["probe"](grown)


def test_damaged_file_changes_nothing_for_the_owners_next(
    decoder: DecoderProcess, video: LocalVideo, tmp_path: Path
) -> None:
    owner_id = UUID(int=7)
    copies = tmp_path / "copies"
    copies.mkdir()
    within = confined(decoder, LIMITS, copies)
    good = replace(video, owner_id=owner_id)

    def seen(file: LocalVideo) -> object:
        info = within["probe"](file)
        sound = [(window.start_s, window.samples.tobytes()) for window in within["read_speech"](file, info)]
        scenes = [
            (scene.start_s, scene.end_s, scene.key_frame.tobytes())
            for block in within["detect"](file, info)
            for scene in block.scenes
        ]
        return info, sound, scenes

    alone, endings = seen(good), Counter[str]()
    for damaged in mutated_files(28, DAMAGED, tmp_path):
        file = LocalVideo(damaged.path, damaged.path.stat().st_size, temporary=True, owner_id=owner_id)
        try:
            seen(file)
            endings["read"] += 1
        except (InvalidVideo, WorkerLost) as error:
            endings[type(error).__name__] += 1
        assert seen(good) == alone, damaged
    assert min(endings["read"], endings["InvalidVideo"]) > DAMAGED // 10, endings
    assert len(list(copies.glob("*/*/*"))) == 0
