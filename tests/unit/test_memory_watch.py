"""The limit of a process's memory for a media file, and that nothing else is held to it."""

import gc
import resource
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from actors.stages import memory_watch
from actors.stages.media_reader import MediaReader
from actors.stages.memory_watch import MemoryWatch
from actors.stages.scene_detector import SceneDetector
from cluster.contracts.errors import InvalidVideo
from cluster.contracts.media import LocalVideo, MediaInfo, MediaLimits, SceneBlock
from tests.support.media_files import Recipe, Shot, Sound, tone, write_video

MIB = 2**20
LIMITS = MediaLimits(max_duration_s=600, max_pixels=4_000_000, max_fps=120, max_streams=8, max_bytes=10**8)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a test can reach; the ordinary ones hold here as well, a hundred times as wide."""
    monkeypatch.setattr(memory_watch, "LARGEST_GROWTH_BYTES", 96 * MIB)
    monkeypatch.setattr(memory_watch, "LARGEST_RESERVE_BYTES", 256 * MIB)


@pytest.fixture(autouse=True)
def bound_at_start() -> Iterator[tuple[int, int]]:
    before = bound()
    yield before
    assert bound() == before


def bound() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_DATA)


def taken(mib: int) -> np.ndarray:
    """So much memory, in use."""
    return np.ones(mib * MIB, np.uint8)


def steps(sizes_mib: list[int], watch: MemoryWatch) -> Generator[np.ndarray, None, None]:
    """Each step hands on so much memory of its own."""
    for mib in sizes_mib:
        piece = taken(mib)
        watch.check()
        yield piece


@pytest.fixture
def video(tmp_path: Path) -> LocalVideo:
    """Four scenes and some sound."""
    shots = [Shot(0.8, seed) for seed in range(4)]
    path = write_video(tmp_path / "video.mp4", shots, [Sound(0.0, tone(2.0))], Recipe((64, 64)))
    return LocalVideo(path, path.stat().st_size, temporary=False)


def reader() -> MediaReader:
    return MediaReader(LIMITS)


def detect(video: LocalVideo, info: MediaInfo) -> Iterator[SceneBlock]:
    return SceneDetector(96, 1, threads=1, limits=LIMITS).detect(video, info)


@pytest.mark.usefixtures("narrow")
def test_a_file_that_grows_beyond_the_bound_is_refused() -> None:
    watch = MemoryWatch()
    with pytest.raises(InvalidVideo, match="takes more than"):
        list(watch.bounded_steps(steps([40, 40, 40], watch)))


@pytest.mark.usefixtures("narrow")
def test_growth_is_measured_again_after_the_check_interval() -> None:
    watch = MemoryWatch()
    watch.check()
    held = taken(120)
    time.sleep(memory_watch.BETWEEN_CHECKS_S)
    with pytest.raises(InvalidVideo, match="takes more than"):
        watch.check()
    assert len(held) == 120 * MIB


@pytest.mark.usefixtures("narrow")
def test_what_is_handed_on_and_let_go_does_not_add_up() -> None:
    watch = MemoryWatch()
    assert sum(len(piece) for piece in watch.bounded_steps(steps([40] * 10, watch))) == 400 * MIB


@pytest.mark.usefixtures("narrow")
def test_kernel_refuses_a_large_step_and_grants_it_afterwards() -> None:
    with pytest.raises(MemoryError), MemoryWatch().bounded():
        taken(300)
    assert len(taken(300)) == 300 * MIB


@pytest.mark.usefixtures("narrow")
def test_what_a_process_holds_already_is_not_the_files(video: LocalVideo) -> None:
    """As large models would be."""
    model = taken(400)
    info = reader().probe(video)
    assert len(list(detect(video, info))) == 4
    assert len(model) == 400 * MIB


@pytest.mark.usefixtures("narrow")
def test_memory_taken_by_others_is_not_charged_to_the_file(video: LocalVideo) -> None:
    blocks = detect(video, reader().probe(video))
    next(blocks)
    model = taken(400)
    assert len(list(blocks)) == 3
    assert len(model) == 400 * MIB


@pytest.mark.usefixtures("narrow")
def test_two_files_read_in_turns_account_for_their_own_growth() -> None:
    first, second = MemoryWatch(), MemoryWatch()
    pairs = zip(
        first.bounded_steps(steps([60, 30, 30], first)), second.bounded_steps(steps([60, 30, 30], second)), strict=True
    )
    held = list(islice(pairs, 2))
    with pytest.raises(InvalidVideo, match="takes more than"):
        next(pairs)
    assert len(held) == 2


def test_nothing_is_bounded_while_a_step_is_in_the_callers_hands(
    video: LocalVideo, bound_at_start: tuple[int, int]
) -> None:
    info = reader().probe(video)
    assert bound() == bound_at_start
    for _ in reader().read_speech(video, info):
        assert bound() == bound_at_start
    for _ in detect(video, info):
        assert bound() == bound_at_start


def test_overlapping_generators_restore_the_bound(video: LocalVideo, bound_at_start: tuple[int, int]) -> None:
    info = reader().probe(video)
    first, second = detect(video, info), detect(video, info)
    next(first)
    next(second)
    assert isinstance(first, Generator)
    first.close()
    assert bound() == bound_at_start
    assert len(list(second)) == 3


def test_abandoned_generator_leaves_no_bound_and_no_open_file(
    video: LocalVideo, bound_at_start: tuple[int, int]
) -> None:
    blocks = detect(video, reader().probe(video))
    next(blocks)
    del blocks
    gc.collect()
    assert bound() == bound_at_start
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert str(video.path) not in {str(link.readlink()) for link in links if link.is_symlink()}


def test_bounds_that_are_held_at_one_time_end_in_any_order(bound_at_start: tuple[int, int]) -> None:
    """As those of two threads may."""
    first, second = ExitStack(), ExitStack()
    first.enter_context(MemoryWatch().bounded())
    of_first = bound()[0]
    kept = taken(100)
    second.enter_context(MemoryWatch().bounded())
    assert bound()[0] > of_first + 90 * MIB  # the first is as free as before, the second has all of its own
    first.close()
    assert bound()[0] > of_first + 90 * MIB
    second.close()
    assert bound() == bound_at_start
    assert len(kept) == 100 * MIB


def test_a_stricter_bound_of_the_machines_is_kept() -> None:
    before = bound()
    strict = memory_watch._reserved_bytes() + 512 * MIB
    resource.setrlimit(resource.RLIMIT_DATA, (strict, before[1]))
    try:
        with MemoryWatch().bounded():
            assert bound() == (strict, before[1])
        assert bound() == (strict, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
