"""``heimdex watch``: progress of videos that were submitted before, until all of them have ended."""

from collections.abc import Sequence
from uuid import UUID

import typer

from cluster.cli.report import print_failures, print_summary, print_warnings
from cluster.cli.terminal import error_console, out, say
from cluster.cli.video_choice import Batch, Videos, choose, opened_pool, refusal, require_either
from cluster.cli.watch import watch as watch_videos
from cluster.store.postgres.connections import Pool
from cluster.store.queue.worker_registry import SCHEDULER_KIND, SEEN_WITHIN_S, seen_workers
from cluster.store.videos.progress import find_unsettled, read_results, read_standings


def watch(videos: Videos = None, batch: Batch = None) -> None:
    """Watch videos until all are READY, FAILED or CANCELLED; without any named, all that wait or are on their way.

    Exit status 0: all are READY. Ctrl-C ends the watching alone: the videos go on.
    """
    if videos and batch is not None:
        require_either(videos, batch)
    with opened_pool("heimdex-watch") as pool:
        ids = choose(pool, videos, batch) if videos or batch is not None else find_unsettled(pool)
        if not ids:
            out("No video waits or is on its way.")
            return
        _refuse_endless(pool, ids)
        try:
            watch_videos(pool, ids, error_console())
        except KeyboardInterrupt:
            say("Interrupted. The videos go on.")
            raise typer.Exit(130) from None
        results = read_results(pool, ids)
    print_summary(results)
    print_warnings(results)
    print_failures(results)
    if any(result["status"] != "READY" for result in results) or len(results) < len(ids):
        raise typer.Exit(1)


def _refuse_endless(pool: Pool, ids: Sequence[UUID]) -> None:
    """Say so where videos wait and no scheduler is alive that would claim them."""
    waiting = sum(1 for standing in read_standings(pool, ids) if not standing.settled)
    alive = any(worker.kind == SCHEDULER_KIND for worker in seen_workers(pool, SEEN_WITHIN_S))
    if waiting and not alive:
        raise refusal(f"{waiting} of the {len(ids)} videos have not ended and no cluster is up: run `heimdex up` first")
