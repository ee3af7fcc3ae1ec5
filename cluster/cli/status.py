"""The state of the cluster as ``heimdex status`` and ``top`` show it; all of it read from Postgres."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cluster.cli.report import mean_times, number
from cluster.cli.terminal import cell, in_markup, keep_whole
from cluster.contracts.counts import counted
from cluster.contracts.durations import duration_text
from cluster.contracts.stages import Stage
from cluster.contracts.uris import video_name
from cluster.contracts.videos import VideoStatus
from cluster.runtime.launch import ClusterState
from cluster.store.postgres.connections import Pool, place
from cluster.store.queue.worker_registry import SCHEDULER_KIND, SEEN_WITHIN_S, SeenWorker, seen_workers
from cluster.store.videos.load import Backlog, read_backlog, read_stage_load
from cluster.store.videos.progress import count_by_status, in_flight, read_standings, recent_times, waiting_for_a_reason

SHOWN_WAITING = 20
"""Videos that wait for a reason in ``--json``, those that are tried again first."""
ON_ONE_SCREEN = 3
"""Videos of a kind that are shown unless all are asked for."""


def read_status(pool: Pool, state: ClusterState | None) -> dict[str, Any]:
    """What ``status --json`` prints."""
    workers = [_worker_fields(worker) for worker in seen_workers(pool, SEEN_WITHIN_S)]
    backlog = read_backlog(pool)
    oldest = read_standings(pool, [backlog.oldest] if backlog.oldest is not None else [])
    return {
        "scheduling": any(worker["kind"] == SCHEDULER_KIND for worker in workers),
        "http_url": state.http_url if state else None,
        "dashboard_url": state.dashboard_url if state else None,
        "database": place(str(pool.conninfo)),
        "videos": count_by_status(pool),
        "backlog": {**asdict(backlog), "oldest": asdict(oldest[0]) if oldest else None},
        "recent": recent_times(pool),
        "stages": read_stage_load(pool),
        "in_flight": [asdict(standing) for standing in read_standings(pool, in_flight(pool))],
        "waiting": [asdict(standing) for standing in read_standings(pool, waiting_for_a_reason(pool, SHOWN_WAITING))],
        "workers": workers,
    }


def empty_status() -> dict[str, Any]:
    """The same where there is no database yet."""
    return {
        "scheduling": False,
        "http_url": None,
        "dashboard_url": None,
        "database": None,
        "videos": {status.value: 0 for status in VideoStatus},
        "backlog": asdict(Backlog(0, None, None, None, None)),
        "recent": {"videos": 0, "queue_ms": None, "wait_ms": None, "run_ms": None},
        "stages": [
            {"name": stage.value, "in_flight": 0, "completed": 0, "failed": 0, "wait_ms": None, "run_ms": None}
            for stage in Stage
        ],
        "in_flight": [],
        "waiting": [],
        "workers": [],
    }


def status_view(current: Mapping[str, Any], *, everything: bool = False) -> RenderableType:
    """The same for people, on one screen unless ``everything`` is asked for."""
    return Group(*_parts(current, None if everything else ON_ONE_SCREEN))


def _parts(current: Mapping[str, Any], most: int | None) -> Iterator[RenderableType]:
    yield from (cell(line) for line in _head(current))
    stages = [stage for stage in current["stages"] if stage["in_flight"] or stage["completed"] or stage["failed"]]
    if stages:
        yield _stage_table(stages)
    moving, waiting = current["in_flight"], current["waiting"]
    if moving:
        yield _in_flight_table(moving) if most is None else _short_in_flight_table(moving[:most])
        yield from _left_out(len(moving), most)
        yield from _warnings(moving[:most])
    if waiting:
        yield _waiting_table(waiting[:most])
        yield from _left_out(len(waiting), most)
    if current["workers"]:
        yield _kind_table(current["workers"]) if most is not None else _worker_table(current["workers"])


def _head(current: Mapping[str, Any]) -> Iterator[str]:
    if current["scheduling"]:
        yield f"The cluster is up: {current['http_url'] or 'its HTTP address is known where it was started'}"
    else:
        yield "No scheduler is alive: nothing is processed until `heimdex up`."
    counts = current["videos"]
    yield (
        f"Videos: {counts['PENDING']} waiting, {counts['PROCESSING']} on their way, "
        f"{counts['READY']} ready, {counts['FAILED']} failed, {counts['CANCELLED']} cancelled"
    )
    yield from _backlog_lines(current["backlog"])
    if current["recent"]["videos"]:
        yield f"Mean of the videos that ended in the last hour: {mean_times([current['recent']])}"
    for worker in current["workers"]:
        if worker["trouble"]:
            yield f"In the way at the moment: {worker['trouble']}"


def _backlog_lines(backlog: Mapping[str, Any]) -> Iterator[str]:
    if not backlog["videos"]:
        return
    rate, left_s = backlog["videos_per_hour"], backlog["left_s"]
    pace = "no video ended in the last 5 minutes"
    if rate is not None:
        pace = f"{rate:.0f} videos an hour in the last 5 minutes, about {duration_text(left_s)} left"
    yield f"Left: {counted(backlog['videos'], 'video')}; {pace}"
    oldest = backlog["oldest"]
    if oldest is not None and backlog["oldest_s"] is not None:
        state = oldest["status"] if oldest["status"] == "PENDING" else oldest["processing_stage"]
        yield f"Oldest: {_name(oldest)} ({oldest['id']}), {state}, queued {duration_text(backlog['oldest_s'])} ago"


def _left_out(count: int, most: int | None) -> Iterator[Text]:
    if most is not None and count > most:
        yield Text(f"and {count - most} more (--all)")


def _warnings(standings: Sequence[Mapping[str, Any]]) -> Iterator[Text]:
    for standing in standings:
        for warning in standing["warnings"]:
            yield cell(f"Warning: {_name(standing)}: {warning['message']}")


def _plain_table(title: str, *headers: str) -> Table:
    table = Table(*headers, title=title, title_justify="left", box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    return table


def _stage_table(stages: Sequence[Mapping[str, Any]]) -> Table:
    table = _plain_table("Stages: now, and in the last 5 minutes", "stage")
    for column in ("videos now", "done", "failed", "mean wait s", "mean run s"):
        table.add_column(column, justify="right")
    for stage in stages:
        counts = [str(stage[key]) for key in ("in_flight", "completed", "failed")]
        times = [number(stage[key], 2, 1000) for key in ("wait_ms", "run_ms")]
        table.add_row(in_markup(stage["name"]), *counts, *times)
    return table


def _in_flight_table(standings: Sequence[Mapping[str, Any]]) -> Table:
    table = _plain_table("On their way, the longest first", "id", "video", "stage", "done")
    keep_whole(table, "id")
    for column in ("queue s", "wait s", "run s"):
        table.add_column(column, justify="right")
    for standing in standings:
        stages = " + ".join(standing["stages"]) or standing["processing_stage"]
        times = [number(standing[key], 2, 1000) for key in ("queue_ms", "wait_ms", "run_ms")]
        names = (str(standing["id"]), in_markup(_name(standing)), in_markup(stages))
        table.add_row(*names, str(standing["done_stages"]), *times)
    return table


def _short_in_flight_table(standings: Sequence[Mapping[str, Any]]) -> Table:
    table = _plain_table("On their way, the longest first", "id", "video: stage", "done")
    keep_whole(table, "id", "done")
    for standing in standings:
        stages = " + ".join(standing["stages"]) or standing["processing_stage"]
        table.add_row(
            str(standing["id"]), cell(f"{_name(standing)}: {stages}"), f"{standing['done_stages']} of {len(Stage)}"
        )
    return table


def _waiting_table(standings: Sequence[Mapping[str, Any]]) -> Table:
    table = _plain_table("Waiting for another attempt", "id", "video: why")
    keep_whole(table, "id")
    for standing in standings:
        table.add_row(str(standing["id"]), cell(f"{_name(standing)}: {standing['error_message']}"))
    return table


def _kind_table(workers: Sequence[Mapping[str, Any]]) -> Table:
    """One row for the workers of a kind, device and model."""
    table = _plain_table("Workers", "kind", "workers", "state", "busy (5 min)", "device", "model", "peak memory")
    kinds: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for worker in workers:
        kinds.setdefault((worker["kind"], worker["device"], worker["model"] or ""), []).append(worker)
    for (kind, device, model), alike in kinds.items():
        states = Counter(worker["state"] for worker in alike)
        shares = [worker["busy_share"] for worker in alike if worker["busy_share"] is not None]
        busy = None if kind == SCHEDULER_KIND or not shares else sum(shares) / len(shares)
        memory = max((worker["peak_memory_bytes"] or 0 for worker in alike), default=0)
        state = ", ".join(f"{count} {name}" for name, count in sorted(states.items()))
        row = (kind, str(len(alike)), state, _percent(busy), device, model, _mebibytes(memory))
        table.add_row(*map(in_markup, row))
    return table


def _worker_table(workers: Sequence[Mapping[str, Any]]) -> Table:
    table = _plain_table("Workers", "worker", "state", "node", "device", "model", "busy (5 min)", "peak memory")
    for worker in workers:
        name = worker["worker"].rpartition("/")[2] if "/" in worker["worker"] else worker["kind"]
        share = None if worker["kind"] == SCHEDULER_KIND else worker["busy_share"]
        row = (name, worker["state"], worker["node"], worker["device"], worker["model"] or "", _percent(share))
        table.add_row(*map(in_markup, row), _mebibytes(worker["peak_memory_bytes"]))
    return table


def _worker_fields(worker: SeenWorker) -> dict[str, Any]:
    return {**asdict(worker), "busy_share": worker.busy_share}


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _mebibytes(count: int | None) -> str:
    return f"{count / 1024**2:.0f} MiB" if count else ""


def _name(standing: Mapping[str, Any]) -> str:
    return video_name(standing["filename"], standing["place"], standing["id"])
