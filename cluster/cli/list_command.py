"""``heimdex list`` and ``show``: the videos that were submitted, and all that is known of one."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.table import Table

from cluster.cli.report import number
from cluster.cli.terminal import cell, out, out_json, result_console
from cluster.cli.video_choice import Batch, OneVideo, choose_one, opened_pool, refusal
from cluster.contracts.durations import duration_text
from cluster.contracts.uris import video_name
from cluster.contracts.videos import VideoStatus
from cluster.store.videos.listing import VideoFilter, list_all, read_details


def list_videos(
    status: Annotated[VideoStatus | None, typer.Option(case_sensitive=False, help="Only videos in this state.")] = None,
    batch: Batch = None,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Only videos submitted since then (UTC)."),
    ] = None,
    owner: Annotated[UUID | None, typer.Option(metavar="UUID", help="Only this owner's; default: all.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, latest first.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array on standard output.")] = False,
) -> None:
    """List the videos that were submitted, latest first: id, state, when, name, and why it failed."""
    chosen = VideoFilter(owner, status, batch, since and since.replace(tzinfo=UTC))
    with opened_pool("heimdex-list") as pool:
        videos, total = list_all(pool, chosen, limit)
    if as_json:
        out_json(videos)
        return
    for video in videos:
        out(_line(video))
    if not videos:
        out("There is no such video." if chosen != VideoFilter() else "No video was submitted.")
    elif total > len(videos):
        out(f"{total} videos, the latest {len(videos)} are shown (--limit)")


def show(
    video: OneVideo,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Show all that is known of a video: state, times, media, stages, and what went wrong.

    Exit status 1: there is no such video, or the name fits several.
    """
    with opened_pool("heimdex-show") as pool:
        video_id = choose_one(pool, video)
        details = read_details(pool, video_id)
    if details is None:
        raise refusal(f"there is no such video: {video_id}")
    if as_json:
        out_json(details)
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _fields(details):
        table.add_row(name, cell(value))
    console = result_console()
    console.print(table)
    if details["stages"]:
        console.print(_stage_table(details["stages"]))


def _stage_table(stages: list[dict[str, Any]]) -> Table:
    table = Table("stage", "outcome", title="Stages of the latest attempt", title_justify="left")
    for column in ("wait s", "run s"):
        table.add_column(column, justify="right")
    for stage in stages:
        times = [number(stage[key], 2, 1000) for key in ("wait_ms", "run_ms")]
        table.add_row(stage["name"], stage["outcome"], *times)
    return table


def _line(video: dict[str, Any]) -> str:
    name = video_name(video["filename"], video["uri"], video["id"])
    submitted = f"{video['created_at']:%Y-%m-%d %H:%M}" if video["created_at"] else "-" * 16
    reason = f": {video['processing_stage']}: {video['error_message']}" if video["error_message"] else ""
    return f"{video['id']}  {video['status']:10}  {submitted}  {name}{reason}"


def _fields(details: dict[str, Any]) -> list[tuple[str, str]]:
    """What people read of a video, without what is not known of it."""
    known = {key: value for key, value in details.items() if value is not None}
    media = [f"{known['width']} x {known['height']}" if "width" in known else ""]
    media += [f"{known['fps']:.4g} fps" if "fps" in known else ""]
    media += [f"{known['file_size_bytes'] / 1024**2:.1f} MiB" if "file_size_bytes" in known else ""]
    times = [
        f"{name} {number(known[key], 2, 1000)} s"
        for name, key in (("queue", "queue_ms"), ("wait", "wait_ms"), ("run", "run_ms"), ("in all", "processing_ms"))
        if key in known
    ]
    fields = [
        ("id", known["id"]),
        ("name", video_name(details["filename"], details["uri"], details["id"])),
        ("URI", details["uri"]),
        ("state", f"{details['status']}, {details['processing_stage']}"),
        ("error", f"{details['error_type']}: {details['error_message']}" if details["error_message"] else ""),
        *(("warning", warning["message"]) for warning in details["warnings"]),
        ("batch", known.get("batch", "")),
        ("owner", known["owner_id"]),
        ("submitted", _time(known.get("created_at"))),
        ("finished", _time(known.get("finished_at"))),
        ("attempts", f"{known['attempts']}, of them {known['failures']} ended in an error, {known['crashes']} crashed"),
        ("duration", duration_text(known["duration_s"]) if known.get("duration_s") else ""),
        ("media", ", ".join(part for part in media if part)),
        ("language", known.get("language", "")),
        ("found", f"{known['scenes']} scenes, {known['words']} words"),
        ("times", ", ".join(times)),
    ]
    return [(name, str(value)) for name, value in fields if value]


def _time(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
