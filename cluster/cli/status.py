"""``heimdex status``: workers, videos on their way, what is waiting; all of it read from Postgres."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster.cli.report import mean_times, number
from cluster.cli.terminal import in_markup, result_console
from cluster.contracts.uris import video_name
from cluster.runtime.launch import ClusterState
from cluster.store.postgres.connections import Pool, place
from cluster.store.queue.worker_registry import SCHEDULER_KIND, SEEN_WITHIN_S, seen_workers
from cluster.store.videos.progress import count_by_status, in_flight, read_standings, recent_times, waiting_for_a_reason

SHOWN_WAITING = 20
"""Videos that wait for a reason, those that are tried again first."""


def read_status(pool: Pool, state: ClusterState | None) -> dict[str, Any]:
    """What ``status --json`` prints."""
    workers = [asdict(worker) for worker in seen_workers(pool, SEEN_WITHIN_S)]
    return {
        "scheduling": any(worker["kind"] == SCHEDULER_KIND for worker in workers),
        "http_url": state.http_url if state else None,
        "dashboard_url": state.dashboard_url if state else None,
        "database": place(str(pool.conninfo)),
        "videos": count_by_status(pool),
        "recent": recent_times(pool),
        "in_flight": [asdict(standing) for standing in read_standings(pool, in_flight(pool))],
        "waiting": [asdict(standing) for standing in read_standings(pool, waiting_for_a_reason(pool, SHOWN_WAITING))],
        "workers": workers,
    }


def show_status(current: Mapping[str, Any]) -> None:
    """The same for people."""
    console = result_console()
    if current["scheduling"]:
        console.print(f"The cluster is up: {current['http_url'] or 'its HTTP address is known where it was started'}")
    else:
        console.print("No scheduler is alive: nothing is processed until `heimdex up`.")
    counts = current["videos"]
    console.print(
        f"Videos: {counts['PENDING']} waiting, {counts['PROCESSING']} on their way, "
        f"{counts['READY']} ready, {counts['FAILED']} failed, {counts['CANCELLED']} cancelled"
    )
    if current["recent"]["videos"]:
        console.print(f"Mean of the videos that ended in the last hour: {mean_times([current['recent']])}")
    for worker in current["workers"]:
        if worker["trouble"]:
            console.print(f"In the way at the moment: {in_markup(worker['trouble'])}")
    if current["in_flight"]:
        console.print(_in_flight_table(current["in_flight"]))
        _show_warnings(console, current["in_flight"])
    if current["waiting"]:
        console.print(_waiting_table(current["waiting"]))
    if current["workers"]:
        console.print(_worker_table(current["workers"]))


def _show_warnings(console: Console, standings: list[dict[str, Any]]) -> None:
    for standing in standings:
        for warning in standing["warnings"]:
            console.print(f"Warning: {in_markup(_name(standing))}: {in_markup(warning['message'])}")


def _in_flight_table(standings: list[dict[str, Any]]) -> Table:
    table = Table("video", "stage", "stages done", title="On their way", title_justify="left")
    for column in ("queue s", "wait s", "run s"):
        table.add_column(column, justify="right")
    for standing in standings:
        stages = " + ".join(standing["stages"]) or standing["processing_stage"]
        times = [number(standing[key], 2, 1000) for key in ("queue_ms", "wait_ms", "run_ms")]
        table.add_row(in_markup(_name(standing)), in_markup(stages), str(standing["done_stages"]), *times)
    return table


def _waiting_table(standings: list[dict[str, Any]]) -> Table:
    table = Table(title="Waiting for another attempt", title_justify="left")
    for column in ("video", "why"):
        table.add_column(column, overflow="fold")
    for standing in standings:
        table.add_row(in_markup(_name(standing)), in_markup(standing["error_message"]))
    return table


def _worker_table(workers: list[dict[str, Any]]) -> Table:
    table = Table(title="Workers", title_justify="left")
    for column in ("worker", "state", "node", "device", "model"):
        table.add_column(column, overflow="fold")
    for column in ("busy", "peak memory"):
        table.add_column(column, justify="right")
    for worker in workers:
        share = 100 * min(1.0, worker["busy_s"] / worker["alive_s"]) if worker["alive_s"] else 0.0
        memory = worker["peak_memory_bytes"]
        name = worker["worker"].rpartition("/")[2] if "/" in worker["worker"] else worker["kind"]
        table.add_row(
            *map(in_markup, (name, worker["state"], worker["node"], worker["device"], worker["model"] or "")),
            "" if worker["kind"] == SCHEDULER_KIND else f"{share:.0f} %",
            f"{memory / 1024**2:.0f} MiB" if memory else "",
        )
    return table


def _name(standing: Mapping[str, Any]) -> str:
    return video_name(standing["filename"], standing["place"], standing["id"])
