"""The numbers add up: for every video, and against the wall clock."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from cluster.contracts.stages import REQUIRES, Stage
from cluster.store.postgres.connections import Pool

TOLERANCE_MS = 50.0


def test_queue_plus_critical_path_is_the_whole_time(demo_results: list[dict[str, Any]], cluster_pool: Pool) -> None:
    for result in demo_results:
        video = _one(cluster_pool, "SELECT * FROM videos WHERE id = %s", result["id"])
        runs = {run["stage"]: run for run in _runs(cluster_pool, result["id"])}
        total_ms = (video["processing_finished_at"] - video["queued_at"]).total_seconds() * 1000
        path_ms = (video["processing_started_at"] - video["queued_at"]).total_seconds() * 1000
        stage = Stage.FINALIZING
        while True:
            path_ms += runs[stage]["wait_ms"] + runs[stage]["run_ms"]
            if not REQUIRES[stage]:
                break
            stage = max(REQUIRES[stage], key=lambda required: runs[required]["finished_at"])
        assert abs(total_ms - path_ms) < TOLERANCE_MS


def test_the_ledger_has_one_closed_run_per_stage_in_order(
    demo_results: list[dict[str, Any]], cluster_pool: Pool
) -> None:
    for result in demo_results:
        runs = {run["stage"]: run for run in _runs(cluster_pool, result["id"])}
        assert set(runs) == {stage.value for stage in Stage}
        for stage, required in REQUIRES.items():
            run = runs[stage]
            assert run["outcome"] == "completed"
            assert run["attempt"] == 1
            assert run["node"]
            assert run["worker"]
            span_ms = (run["finished_at"] - run["ready_at"]).total_seconds() * 1000
            assert abs(run["wait_ms"] + run["run_ms"] - span_ms) < 1.0
            for earlier in required:
                assert run["ready_at"] >= runs[earlier]["finished_at"]


def test_processing_duration_is_exactly_finish_minus_start(
    demo_results: list[dict[str, Any]], cluster_pool: Pool
) -> None:
    for result in demo_results:
        row = _one(
            cluster_pool,
            "SELECT processing_duration_ms AS ms, processing_finished_at - processing_started_at AS span "
            "FROM videos WHERE id = %s",
            result["id"],
        )
        assert row["span"] == timedelta(milliseconds=row["ms"])
        assert result["processing_ms"] == row["ms"]


def test_no_worker_was_busy_longer_than_it_lived(demo_results: list[dict[str, Any]], cluster_pool: Pool) -> None:
    assert demo_results
    with cluster_pool.connection() as connection:
        workers = connection.execute(
            "SELECT kind, busy_s, extract(epoch FROM seen_at - started_at)::float8 AS alive_s FROM cluster_workers"
        ).fetchall()
        charged = connection.execute(
            "SELECT stage, sum(run_ms) / 1000 AS run_s FROM video_stage_runs WHERE outcome = 'completed' GROUP BY stage"
        ).fetchall()
    run_s = {row["stage"]: row["run_s"] for row in charged}
    for worker in workers:
        assert worker["busy_s"] <= worker["alive_s"] + 1.0
    embedding_s = sum(worker["busy_s"] for worker in workers if worker["kind"] == "embedder")
    assert run_s["scene_processing"] <= embedding_s + 0.5


def _runs(pool: Pool, video_id: str) -> list[dict[str, Any]]:
    with pool.connection() as connection:
        return connection.execute(
            "SELECT * FROM video_stage_runs WHERE video_id = %s ORDER BY ready_at", (UUID(video_id),)
        ).fetchall()


def _one(pool: Pool, statement: str, video_id: str) -> dict[str, Any]:
    with pool.connection() as connection:
        row = connection.execute(statement, (UUID(video_id),)).fetchone()
    assert row is not None
    return row
