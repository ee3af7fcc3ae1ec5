"""A storage driver that hangs is left behind in time; one that works hands over all that it reads."""

import threading
import time
from collections.abc import Iterator

import pytest

from cluster.contracts.errors import Interrupted, SourceSlow, TransientFailure
from cluster.files.deadline import Deadline, Pace
from cluster.files.driver_thread import read_beside


def test_everything_comes_in_order_and_then_the_error() -> None:
    def parts() -> Iterator[int]:
        yield from range(50)
        raise OSError("the bucket is gone")

    read: list[int] = []
    with pytest.raises(OSError, match="the bucket is gone"):
        read.extend(read_beside(parts, Deadline(10.0)))
    assert read == list(range(50))
    assert list(read_beside(lambda: iter([1, 2]), Deadline(10.0))) == [1, 2]


@pytest.mark.parametrize(
    ("limit_s", "pace", "error"), [(0.2, Pace(), TransientFailure), (60.0, Pace(100, 0.2), SourceSlow)]
)
def test_a_driver_that_hangs_is_left_in_time(limit_s: float, pace: Pace, error: type[Exception]) -> None:
    answered = threading.Event()

    def hangs() -> Iterator[bytes]:
        answered.wait(30)
        yield b"late"

    begun_s = time.monotonic()
    try:
        with pytest.raises(error):
            next(read_beside(hangs, Deadline(limit_s, pace)))
        assert time.monotonic() - begun_s < 2.0
    finally:
        answered.set()
    _until_drivers_ended()


def test_a_driver_that_hangs_is_left_when_stopped() -> None:
    stopped, answered = threading.Event(), threading.Event()

    def hangs() -> Iterator[bytes]:
        stopped.set()
        answered.wait(30)
        yield b"late"

    try:
        with pytest.raises(Interrupted, match="the download was stopped"):
            next(read_beside(hangs, Deadline(60.0, stopped=stopped)))
    finally:
        answered.set()
    _until_drivers_ended()


def test_a_driver_reads_no_further_when_left() -> None:
    read: list[int] = []

    def endless() -> Iterator[int]:
        for number in range(10**9):
            read.append(number)
            yield number

    parts = read_beside(endless, Deadline(60.0))
    assert next(parts) == 0
    parts.close()  # type: ignore[attr-defined]
    _until_drivers_ended()
    assert len(read) <= 4


def _until_drivers_ended() -> None:
    for thread in threading.enumerate():
        if thread.name == "driver":
            thread.join(5)
            assert not thread.is_alive()
