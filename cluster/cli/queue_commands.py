"""``heimdex cancel``, ``retry`` and ``quarantine``: what becomes of videos that were submitted."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import typer
from rich.table import Table

from cluster.cli.submission_options import read_language
from cluster.cli.terminal import in_markup, out, out_json, result_console
from cluster.contracts.counts import counted
from cluster.contracts.stages import Stage
from cluster.runtime import launch
from cluster.settings import load_settings
from cluster.store.postgres.connections import Pool, open_pool
from cluster.store.queue.submissions import QuarantinedVideo

StageOption = Annotated[Stage | None, typer.Option(help="Only those that failed in this stage.")]


def cancel(ids: Annotated[list[UUID], typer.Argument(help="Ids of videos, as `submit --json` prints them.")]) -> None:
    """Cancel videos that wait or are on their way. Exit status 1: one of them was neither."""
    from cluster.store.queue.submissions import cancel as cancel_videos

    with _pool("heimdex-cancel") as pool:
        cancelled = set(cancel_videos(pool, ids))
    out(f"cancelled {counted(len(cancelled), 'video')}")
    others = [video_id for video_id in ids if video_id not in cancelled]
    for video_id in others:
        out(f"not cancelled: {video_id}: no such video, or it is done already")
    if others:
        raise typer.Exit(1)


def retry(
    ids: Annotated[list[UUID] | None, typer.Argument(help="Ids of FAILED or CANCELLED videos.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that are FAILED.")] = False,
    stage: StageOption = None,
) -> None:
    """Let videos be tried again with all attempts before them; what an earlier attempt stored is not made again."""
    from cluster.store.queue.reprocessing import retry as retry_videos

    if bool(ids) == (failed or stage is not None):
        raise typer.BadParameter("give either ids, or --failed, or --stage")
    with _pool("heimdex-retry") as pool:
        retried = retry_videos(pool, ids or None, stage=stage)
    out(f"{counted(len(retried), 'video waits', 'videos wait')} again")
    if len(retried) < len(ids or []):
        out("the others are neither FAILED nor CANCELLED")
        raise typer.Exit(1)


def reprocess(
    ids: Annotated[list[UUID], typer.Argument(help="Ids of READY, FAILED or CANCELLED videos.")],
    language: Annotated[
        str | None,
        typer.Option(
            callback=read_language, metavar="CODE", help="Language of the speech (en, de, ...); default: as before."
        ),
    ] = None,
) -> None:
    """Process videos again from the beginning. Their scenes stay searchable until the new ones take their place.

    Exit status 1: one of them waits, is being processed, is forgotten, or does not exist.
    """
    from cluster.store.queue.reprocessing import reprocess as reprocess_videos

    with _pool("heimdex-reprocess") as pool:
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

    with _pool("heimdex-quarantine") as pool:
        videos, total = read_quarantine(pool, limit, stage=stage)
    if as_json:
        out_json([asdict(video) for video in videos])
        return
    if not videos:
        out("No video is FAILED.")
        return
    _show(videos, total)


def _show(videos: list[QuarantinedVideo], total: int) -> None:
    table = Table("id", "video", "stage", "reason", "attempts", "failed at (UTC)")
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
    result_console().print(table)
    out(f"{counted(total, 'video')} failed" + (f", the latest {len(videos)} are shown" if total > len(videos) else ""))
    out(f"one of them:  heimdex retry {videos[0].id}     all of a stage:  heimdex retry --stage STAGE")
    out(f"its source:   {videos[0].uri}")


@contextmanager
def _pool(name: str) -> Iterator[Pool]:
    with launch.open_database(load_settings()) as url, open_pool(url, max_size=2, name=name) as pool:
        yield pool
