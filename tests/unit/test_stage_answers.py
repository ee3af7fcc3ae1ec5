"""How a worker handles answers and errors of a stage, without Ray: checked, each error with its blame, storable."""

import gc
import os
import pickle
import weakref
from typing import Any

import numpy as np
import pytest
import ray
from ray.exceptions import ObjectLostError, ObjectStoreFullError, OutOfDiskError

from actors.workers.tracebacks import clear_traceback_frames
from actors.workers.worker import SMALL_BYTES, LoadedWorker, Parts, StageActor, _store_result, blame_of, failure_of
from cluster.contracts.errors import (
    DatabaseUnavailable,
    DeviceFailure,
    InvalidVideo,
    MalformedResult,
    NodeLost,
    NoSpace,
    SourceBusy,
    SourceChanging,
    StageTimeout,
    TransientFailure,
    WorkerLost,
)
from cluster.contracts.results import StageFailure, Transcript
from cluster.contracts.stages import Blame

TRANSCRIPT = Transcript(None, (), "none")


def test_an_answer_of_another_type_than_promised_is_malformed() -> None:
    assert _store_result(TRANSCRIPT, Transcript) is TRANSCRIPT
    others: list[object] = [None, {}, "transcript", [TRANSCRIPT]]
    for answer in others:
        with pytest.raises(MalformedResult, match="instead of Transcript"):
            _store_result(answer, Transcript)


def test_a_part_of_another_type_than_promised_is_malformed() -> None:
    with pytest.raises(MalformedResult, match="answered str instead of Transcript"):
        _store_result(iter(["part"]), Transcript)


def test_small_parts_travel_along_and_large_ones_stay_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[Any] = []

    def put(part: Any) -> int:
        left.append(part)
        return len(left) - 1

    monkeypatch.setattr(ray, "put", put)
    monkeypatch.setattr(ray, "get", left.__getitem__)
    half = np.arange(SMALL_BYTES // 2, dtype=np.uint8)
    parts = [TRANSCRIPT, np.zeros(SMALL_BYTES, np.uint8), half, half[1:], "words"]
    travelling = pickle.dumps(Parts(iter(parts)))
    kept = pickle.loads(travelling)
    assert [len(part) for part in left] == [SMALL_BYTES, SMALL_BYTES // 2 - 1]
    assert SMALL_BYTES // 2 < len(travelling) < SMALL_BYTES
    assert [str(part) for part in kept] == [str(part) for part in kept] == [str(part) for part in parts]
    assert len(kept) == len(parts)


@pytest.mark.parametrize(
    ("error", "blame"),
    [
        (InvalidVideo("no pictures"), Blame.VIDEO),
        (TransientFailure("the network is away"), Blame.ERROR),
        (MalformedResult("a text"), Blame.ERROR),
        (ZeroDivisionError(), Blame.ERROR),
        (WorkerLost("it died"), Blame.CRASH),
        (StageTimeout("still running"), Blame.CRASH),
        (DeviceFailure("the GPU is gone"), Blame.CRASH),
        (NodeLost("the node is gone"), Blame.INTERRUPTION),
        (NoSpace("the disk is full"), Blame.INTERRUPTION),
        (DatabaseUnavailable("Postgres is away"), Blame.INTERRUPTION),
        (SourceBusy("come back later", 20.0), Blame.POSTPONEMENT),
        (SourceChanging("still being written", 5.0), Blame.POSTPONEMENT),
    ],
)
def test_every_error_counts_as_what_it_is(error: Exception, blame: Blame) -> None:
    assert blame_of(error) is blame


def test_a_postponement_says_how_soon_to_try_again() -> None:
    busy = StageFailure("SourceBusy", "come back later", Blame.POSTPONEMENT, 20.0)
    assert failure_of(SourceBusy("come back later", 20.0)) == busy
    assert failure_of(NoSpace("the disk is full")).retry_after_s is None


def test_lost_or_full_cluster_is_no_failure_of_the_video() -> None:
    lost = failure_of(ObjectLostError("00" * 28, None, ""))
    assert (lost.error_type, lost.blame) == ("NodeLost", Blame.INTERRUPTION)
    for full in (ObjectStoreFullError("full"), OutOfDiskError("full")):
        failure = failure_of(full)
        assert (failure.error_type, failure.blame) == ("NoSpace", Blame.INTERRUPTION)


def test_a_message_is_one_line_that_the_database_takes() -> None:
    failure = failure_of(InvalidVideo("a\0b \udce4\nsecond line"))
    assert failure.message == "a b ?"
    assert failure_of(ValueError("bad")).message == "unexpected ValueError: bad"


def test_a_worker_lowers_its_priority_as_its_kind_says(monkeypatch: pytest.MonkeyPatch) -> None:
    lowered: list[int] = []
    monkeypatch.setattr(os, "nice", lowered.append)
    StageActor("worker-1", lambda: LoadedWorker({}, niceness=3), 1.0)
    assert lowered == [3]


def test_failed_calls_memory_is_free_without_garbage_collector() -> None:
    class Pictures:
        pass

    held: list[weakref.ref[Pictures]] = []

    def fail() -> None:
        pictures = Pictures()
        held.append(weakref.ref(pictures))
        kept = []
        try:
            raise ZeroDivisionError
        except ZeroDivisionError as error:
            kept.append(error)  # the frame and the error refer to each other
        raise RuntimeError from kept[0]

    worker = StageActor("worker-1", lambda: LoadedWorker({}), 1.0)
    gc.disable()
    try:
        try:
            fail()
        except RuntimeError as error:
            assert held[0]() is not None
            failure = worker._failure(error)
        assert held[0]() is None
    finally:
        gc.enable()
    assert failure.error_type == "RuntimeError"


def test_an_error_that_is_its_own_cause_is_let_go_as_well() -> None:
    class Pictures:
        pass

    held: list[weakref.ref[Pictures]] = []

    def fail(error: Exception) -> None:
        pictures = Pictures()
        held.append(weakref.ref(pictures))
        raise error

    first, meanwhile = ValueError("first"), KeyError("meanwhile")
    for error in (first, meanwhile):
        with pytest.raises(type(error)):
            fail(error)
    first.__cause__, meanwhile.__cause__ = meanwhile, first
    assert all(pictures() is not None for pictures in held)
    clear_traceback_frames(first)
    assert [pictures() for pictures in held] == [None, None]
