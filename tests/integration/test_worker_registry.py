"""The live schedulers and their workers, as schedulers announce them and others read it."""

from dataclasses import replace

import pytest

from cluster.store.postgres.connections import Pool
from cluster.store.queue.worker_registry import SCHEDULER_KIND, WorkerRegistry, WorkerState, seen_workers
from tests.support.queued_videos import only

SCHEDULER = WorkerState("first", SCHEDULER_KIND, "10.0.0.1", "cpu", None, "idle", 0.0, None)
MEDIA = WorkerState("first/media-1", "media", "10.0.0.1", "cpu", None, "starting", 0.0, None)
SPEECH = WorkerState("first/transcriber-1", "transcriber", "10.0.0.2", "cuda", "small", "busy", 1.5, 4096)


@pytest.fixture
def registry(pool: Pool) -> WorkerRegistry:
    return WorkerRegistry(pool, "first")


def test_announced_workers_are_seen_schedulers_first(pool: Pool, registry: WorkerRegistry) -> None:
    registry.announce([SPEECH, MEDIA, SCHEDULER])
    seen = seen_workers(pool, 10.0)
    assert [worker.worker for worker in seen] == ["first", "first/media-1", "first/transcriber-1"]
    speech = seen[2]
    assert (speech.kind, speech.node, speech.device, speech.model) == ("transcriber", "10.0.0.2", "cuda", "small")
    assert (speech.state, speech.busy_s, speech.peak_memory_bytes) == ("busy", 1.5, 4096)
    assert 0 <= speech.age_s < 5
    assert speech.alive_s >= speech.age_s


def test_a_later_announcement_replaces_the_earlier_one(pool: Pool, registry: WorkerRegistry) -> None:
    registry.announce([SCHEDULER, MEDIA, SPEECH])
    started = only(pool, "SELECT started_at FROM cluster_workers WHERE worker = 'first/media-1'")
    registry.announce([SCHEDULER, replace(MEDIA, state="idle", busy_s=2.0, model="x", peak_memory_bytes=7)])
    seen = {worker.worker: worker for worker in seen_workers(pool, 10.0)}
    assert set(seen) == {"first", "first/media-1"}
    media = seen["first/media-1"]
    assert (media.state, media.busy_s, media.model, media.peak_memory_bytes) == ("idle", 2.0, "x", 7)
    assert only(pool, "SELECT started_at FROM cluster_workers WHERE worker = 'first/media-1'") == started


def test_schedulers_speak_for_their_own_workers_alone(pool: Pool, registry: WorkerRegistry) -> None:
    other = WorkerRegistry(pool, "second")
    registry.announce([SCHEDULER, MEDIA])
    other.announce([replace(SCHEDULER, worker="second")])
    other.announce([])
    assert {worker.worker for worker in seen_workers(pool, 10.0)} == {"first", "first/media-1"}
    other.announce([replace(SCHEDULER, worker="second")])
    registry.withdraw()
    assert {worker.worker for worker in seen_workers(pool, 10.0)} == {"second"}


def test_who_has_been_silent_for_too_long_is_not_seen(pool: Pool, registry: WorkerRegistry) -> None:
    registry.announce([SCHEDULER, MEDIA])
    with pool.connection() as connection:
        connection.execute(
            "UPDATE cluster_workers SET seen_at = clock_timestamp() - interval '1 minute' WHERE worker = 'first'"
        )
    assert [worker.worker for worker in seen_workers(pool, 10.0)] == ["first/media-1"]
    assert [worker.worker for worker in seen_workers(pool, 90.0)] == ["first", "first/media-1"]
    registry.announce([SCHEDULER, MEDIA])
    assert len(seen_workers(pool, 10.0)) == 2
