"""What the commands print when the work is done: the table of videos, the summary, the failures."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from cluster.cli.terminal import in_markup, result_console, say
from cluster.contracts.counts import counted
from cluster.contracts.stages import Stage
from cluster.contracts.uris import distinct_names, shown, video_name

if TYPE_CHECKING:  # it brings numpy and fsspec along, for which `status` should not wait
    from cluster.files.manifest import BadRow

Result = dict[str, Any]
"""A video as ``cluster.store.videos.progress.read_results`` gives it."""


def video_table(results: Sequence[Result]) -> Table:
    """One row per video: scenes, words, duration, RTF; how long it was queued, waited between stages, and ran."""
    table = Table(title="Videos", title_justify="left")
    table.add_column("video", overflow="fold")
    table.add_column("status")
    for column in ("scenes", "words", "duration s", "queue s", "wait s", "run s", "processing s", "RTF"):
        table.add_column(column, justify="right")
    for name, result in zip(_names(results), results, strict=True):
        table.add_row(
            in_markup(name),
            "[green]READY[/]" if result["status"] == "READY" else f"[red]{in_markup(result['status'])}[/]",
            str(result["scenes"]),
            str(result["words"]),
            number(result["duration_s"], 1),
            number(result["queue_ms"], 2, 1000),
            number(result["wait_ms"], 2, 1000),
            number(result["run_ms"], 2, 1000),
            number(result["processing_ms"], 2, 1000),
            number(result["rtf"], 2),
        )
    return table


def stage_table(results: Sequence[Result]) -> Table:
    """Where the time went: wait and run of each stage over all videos, in seconds, never mixed."""
    waits: dict[str, list[float]] = defaultdict(list)
    runs: dict[str, list[float]] = defaultdict(list)
    for result in results:
        for stage in result["stages"]:
            if stage["run_ms"] is not None:
                waits[stage["name"]].append(stage["wait_ms"] / 1000)
                runs[stage["name"]].append(stage["run_ms"] / 1000)
    total_run_s = sum(sum(values) for values in runs.values()) or 1.0
    table = Table(title="Time per stage", title_justify="left")
    table.add_column("stage")
    for column in ("runs", "wait s", "run s", "mean run s", "share of run"):
        table.add_column(column, justify="right")
    for name in (stage.value for stage in Stage):
        if runs[name]:
            run_s = sum(runs[name])
            table.add_row(
                name,
                str(len(runs[name])),
                f"{sum(waits[name]):.2f}",
                f"{run_s:.2f}",
                f"{run_s / len(runs[name]):.2f}",
                f"{100 * run_s / total_run_s:.0f} %",
            )
    return table


def print_summary(results: Sequence[Result]) -> None:
    """Both tables on standard output, and the mean times of the videos that ended."""
    console = result_console()
    if results:
        console.print(video_table(results))
        console.print(stage_table(results))
    ready = [result for result in results if result["status"] == "READY"]
    hours = sum(result["duration_s"] or 0.0 for result in ready) / 3600
    if means := mean_times(results):
        console.print(f"Mean of a video: {means}")
    console.print(f"{len(ready)} of {counted(len(results), 'video')} READY ({hours:.3f} h of video)")


def mean_times(results: Sequence[Mapping[str, Any]]) -> str:
    """Queue, wait between stages and run of a video, in seconds; empty when none was measured."""
    measured = [result for result in results if result["wait_ms"] is not None and result["queue_ms"] is not None]
    if not measured:
        return ""
    queue_s, wait_s, run_s = (
        sum(result[key] for result in measured) / len(measured) / 1000 for key in ("queue_ms", "wait_ms", "run_ms")
    )
    return f"queue {queue_s:.2f} s, wait between stages {wait_s:.2f} s, run {run_s:.2f} s"


def print_failures(results: Sequence[Result]) -> None:
    """One line per failed video on standard error: file (its URI where names repeat), stage, reason."""
    for name, result in zip(_names(results), results, strict=True):
        if result["status"] == "FAILED":
            say(f"FAILED  {name}: {result['processing_stage']}: {result['error_message']}")


def print_warnings(results: Sequence[Result]) -> None:
    """One line per warning on standard error: file (its URI where names repeat) and what was left out of it."""
    for name, result in zip(_names(results), results, strict=True):
        for warning in result["warnings"]:
            say(f"WARNING  {name}: {warning['message']}")


def _names(results: Sequence[Result]) -> list[str]:
    return distinct_names(
        (video_name(result["filename"], result["uri"], result["id"]), shown(result["uri"])) for result in results
    )


def print_bad_rows(manifest: str, bad_rows: "Sequence[BadRow]") -> None:
    """One line per bad manifest row on standard error."""
    for row in bad_rows:
        where = f" (row {row.sheet_row} of the sheet)" if row.sheet_row is not None else ""
        uri = "" if row.uri is None else f": {shown(row.uri)}"
        say(f"{shown(manifest)}:{row.line}: {row.reason}{uri}{where}")


def number(value: float | None, digits: int, divisor: float = 1.0) -> str:
    """A number for people, a dash where it is unknown."""
    return "-" if value is None else f"{value / divisor:.{digits}f}"
