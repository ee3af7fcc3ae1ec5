"""``heimdex cancel``, ``retry`` and ``quarantine``: what becomes of videos that were submitted."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer
from rich.table import Table

from cluster.cli.submission_options import read_language
from cluster.cli.terminal import cell, in_markup, keep_whole, out, out_json, result_console
from cluster.cli.video_choice import Batch, Videos, choose, opened_pool, require_either
from cluster.contracts.counts import counted, form
from cluster.contracts.stages import Stage
from cluster.store.postgres.connections import Pool
from cluster.store.queue.submissions import QuarantinedVideo

WIDE = 120
"""Columns of a terminal from which on a table may have a column for each thing that is known."""
StageOption = Annotated[Stage | None, typer.Option(help="Only those that failed in this stage.")]
Since = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Only those that failed since then (UTC)."),
]


def cancel(videos: Videos = None, batch: Batch = None) -> None:
    """Cancel videos that wait or are on their way. Exit status 1: one of them was neither."""
    from cluster.store.queue.submissions import cancel as cancel_videos

    require_either(videos, batch)
    with opened_pool("heimdex-cancel") as pool:
        ids = choose(pool, videos, batch)
        cancelled = set(cancel_videos(pool, ids))
    out(f"cancelled {counted(len(cancelled), 'video')}")
    others = [video_id for video_id in ids if video_id not in cancelled]
    if batch is not None:  # what has ended of a batch is no mistake
        if others:
            out(f"{counted(len(others), 'video')} of the batch {form(len(others), 'was', 'were')} done already")
        return
    for video_id in others:
        out(f"not cancelled: {video_id}: no such video, or it is done already")
    if others:
        raise typer.Exit(1)


def retry(
    videos: Videos = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that are FAILED.")] = False,
    stage: StageOption = None,
    error_type: Annotated[
        str | None, typer.Option(help="Only those that failed by this type of error, as `quarantine` shows it.")
    ] = None,
    since: Since = None,
    batch: Batch = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be tried again, change nothing.")] = False,
) -> None:
    """Let videos be tried again with all attempts before them; what an earlier attempt stored is not made again.

    Either those that are named, CANCELLED ones too, or all FAILED ones that the options choose. What can never succeed
    (InvalidVideo: the file itself is at fault) is then left out, unless --error-type names it.
    """
    from cluster.store.queue.failures import FailureFilter, count_never_retried, find_retried
    from cluster.store.queue.reprocessing import retry as retry_videos

    failures = FailureFilter(stage, error_type, since and since.replace(tzinfo=UTC), batch)
    if bool(videos) == (failed or failures != FailureFilter()):
        raise typer.BadParameter("give either videos, or --failed, --stage, --error-type, --since or --batch")
    with opened_pool("heimdex-retry") as pool:
        ids = choose(pool, videos) if videos else None
        hopeless = 0 if ids is not None else count_never_retried(pool, failures)
        if dry_run:
            _show_retried(pool, find_retried(pool, ids, failures))
            retried = []
        else:
            retried = retry_videos(pool, ids, failures=failures)
            out(f"{counted(len(retried), 'video waits', 'videos wait')} again")
    if hopeless:
        out(f"{hopeless} more can never succeed (InvalidVideo): retry them by id once their files are others")
    if ids is not None and not dry_run and len(retried) < len(ids):
        out("the others are neither FAILED nor CANCELLED")
        raise typer.Exit(1)


def reprocess(
    videos: Videos = None,
    language: Annotated[
        str | None,
        typer.Option(
            callback=read_language, metavar="CODE", help="Language of the speech (en, de, ...); default: as before."
        ),
    ] = None,
    batch: Batch = None,
) -> None:
    """Process videos again from the beginning. Their scenes stay searchable until the new ones take their place.

    Exit status 1: one of them waits, is being processed, is forgotten, or does not exist.
    """
    from cluster.store.queue.reprocessing import reprocess as reprocess_videos

    require_either(videos, batch)
    with opened_pool("heimdex-reprocess") as pool:
        ids = choose(pool, videos, batch)
        waiting = set(reprocess_videos(pool, ids, language=language))
    out(f"{counted(len(waiting), 'video waits', 'videos wait')} to be processed again")
    others = [video_id for video_id in ids if video_id not in waiting]
    for video_id in others:
        out(f"not queued: {video_id}: no such video, it is forgotten, or it waits or is being processed")
    if others:
        raise typer.Exit(1)


def quarantine(
    stage: StageOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, latest first.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array on standard output.")] = False,
) -> None:
    """List the videos that failed for good, with the stage, the reason and how often they were tried."""
    from cluster.store.queue.submissions import quarantine as read_quarantine

    with opened_pool("heimdex-quarantine") as pool:
        videos, total = read_quarantine(pool, limit, stage=stage)
    if as_json:
        out_json([asdict(video) for video in videos])
        return
    if not videos:
        out("No video is FAILED.")
        return
    _show(videos, total)


def _narrow_table(videos: list[QuarantinedVideo]) -> Table:
    table = Table("id", "video, stage, reason", "attempts", box=None, pad_edge=False)
    keep_whole(table, "id")
    for video in videos:
        what = f"{video.name}: {video.stage}: {video.error_type}: {video.error_message}"
        table.add_row(str(video.id), cell(what), str(video.attempts))
    return table


def _table(videos: list[QuarantinedVideo], width: int) -> Table:
    if width < WIDE:
        return _narrow_table(videos)
    table = Table("id", "video", "stage", "reason", "attempts", "failed at (UTC)")
    keep_whole(table, "id")
    for video in videos:
        reason = f"{video.error_type}: {video.error_message}"
        table.add_row(
            str(video.id),
            in_markup(video.name),
            in_markup(video.stage or ""),
            in_markup(reason),
            str(video.attempts),
            f"{video.failed_at:%Y-%m-%d %H:%M:%S}",
        )
    return table


def _show(videos: list[QuarantinedVideo], total: int) -> None:
    console = result_console()
    console.print(_table(videos, console.width))
    out(f"{counted(total, 'video')} failed" + (f", the latest {len(videos)} are shown" if total > len(videos) else ""))
    out(f"one of them:  heimdex retry {videos[0].id}     all of a stage:  heimdex retry --stage STAGE")
    out(f"its source:   {videos[0].uri}")


def _show_retried(pool: Pool, ids: Sequence[UUID]) -> None:
    from cluster.store.videos.progress import read_standings

    for video in read_standings(pool, ids):
        reason = f": {video.processing_stage}: {video.error_message}" if video.error_message else ""
        out(f"{video.id}  {video.name}{reason}")
    out(f"{counted(len(ids), 'video')} would be tried again")
