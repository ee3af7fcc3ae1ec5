"""Many videos at once: how long each waits once it was begun, and how soon an urgent one behind them is READY.

150 clips of 22 s are submitted at once, then, a third of the way, an urgent one by the same owner. What a video takes
from its first worker to READY is held against what its stages ran along the way, transcription beside scene detection
counting as the longer one; the urgent one against what the same clip takes alone. Then the whole batch is held against
the same with everything claimed at once, which never leaves a worker idle.
``python -m tests.benchmarks.waiting``
"""

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil

from cluster.contracts.videos import HIGHEST_PRIORITY, Submission
from cluster.store.postgres.connections import Pool, open_pool
from cluster.store.queue.submissions import submit
from tests.benchmarks.made_clips import make_clips
from tests.benchmarks.own_cluster import own_cluster
from tests.benchmarks.rounds import Comparison, Spent

CLIPS, CLIPS_QUICK = 150, 24
CLIP_S = 22.0
DIFFERENT = 10
"""Number of clips that differ; the others are the same files again."""
RUNS_LONG = 3.0
"""Multiple of its run that a video may take from its first worker to READY, and an urgent one of its time alone."""
SHARES_APART = 2.0
"""By how many points ``queue_time_pct`` and the ledger's share of waiting before the first stage may differ."""
EVERYTHING_S = "1000000"
"""Work in flight with which everything is claimed at once."""
REACH_EVERYTHING = 0.95
ALONE = 3
OWNER = UUID(int=16)
POLL_S = 0.1

Say = Callable[[str], None]


@dataclass(frozen=True)
class Figures:
    """Figures of a batch, in seconds but for the shares, which are of 100."""

    processing_s: float
    run_s: float
    videos_per_s: float
    urgent_s: float
    alone_s: float
    queue_share: float
    ledger_share: float

    def __str__(self) -> str:
        return (
            f"mean processing {self.processing_s:.2f} s, mean run along the way {self.run_s:.2f} s "
            f"({self.processing_s / self.run_s:.2f} x); {self.videos_per_s:.3f} videos a second; urgent "
            f"{self.urgent_s:.2f} s, alone {self.alone_s:.2f} s ({self.urgent_s / self.alone_s:.2f} x); waiting before "
            f"the first stage {self.queue_share:.1f} % by queue_time_pct, {self.ledger_share:.1f} % by the ledger"
        )


def compare(rounds: int, quick: bool, say: Say) -> list[Comparison]:
    """The lines about waiting; one round of so many videos is enough."""
    count = CLIPS_QUICK if quick else CLIPS
    with tempfile.TemporaryDirectory(prefix="heimdex-waiting-") as name:
        folder = Path(name)
        say(f"making {DIFFERENT} clips of {CLIP_S:.0f} s")
        paths = [str(clip.path) for clip in make_clips(folder / "clips", [CLIP_S] * DIFFERENT)]
        batch = list(islice(cycle(paths), count))
        figures = _on_a_cluster(folder / "bounded", batch, say)
        say("the same with everything claimed at once")
        everything = _on_a_cluster(folder / "everything", batch, say, HEIMDEX_WORK_IN_FLIGHT_S=EVERYTHING_S)
    title = f"{count} clips of {CLIP_S:.0f} s at once"
    apart = abs(figures.queue_share - figures.ledger_share)
    shared: dict[str, Any] = {
        "measure": "wall",
        "gate": "all of them are READY; waiting before the first stage: "
        f"{figures.queue_share:.1f} % by queue_time_pct, {figures.ledger_share:.1f} % by the ledger",
        "wrong": None if apart <= SHARES_APART else "the shares differ",
    }
    return [
        Comparison(
            f"{title}: a video from its first worker to READY",
            "heimdex",
            f"{RUNS_LONG:g} x its run along the way",
            reach=1.0,
            of_ours=[Spent(figures.processing_s, math.nan)],
            of_theirs=[Spent(RUNS_LONG * figures.run_s, math.nan)],
            details=[str(figures), f"with everything claimed at once: {everything}"],
            **shared,
        ),
        Comparison(
            f"{title}: an urgent one behind them",
            "heimdex",
            f"{RUNS_LONG:g} x its time alone",
            reach=1.0,
            of_ours=[Spent(figures.urgent_s, math.nan)],
            of_theirs=[Spent(RUNS_LONG * figures.alone_s, math.nan)],
            **shared,
        ),
        Comparison(
            title,
            "heimdex",
            "the same with everything claimed at once",
            reach=REACH_EVERYTHING,
            of_ours=[Spent(1 / figures.videos_per_s, math.nan)],
            of_theirs=[Spent(1 / everything.videos_per_s, math.nan)],
            **shared,
        ),
    ]


def _on_a_cluster(folder: Path, paths: Sequence[str], say: Say, **settings: str) -> Figures:
    folder.mkdir()
    with own_cluster(folder, **settings) as cluster:
        url = cluster.heimdex("db", "url").strip()
        with open_pool(url, max_size=1, name="bench") as pool:
            figures = measure(pool, paths, say)
    say(str(figures))
    return figures


def measure(pool: Pool, paths: Sequence[str], say: Say) -> Figures:
    """Submit all at once and an urgent one behind them; returns when all are READY."""
    alone_s = [_time_of(pool, _until_ready(pool, _submit(pool, paths[:1]))[0]) for _ in range(ALONE + 1)][1:]
    say(f"alone: {', '.join(f'{each:.2f}' for each in alone_s)} s; load {psutil.getloadavg()[0]:.2f}")
    ids = _submit(pool, paths)
    while _ready(pool, ids) < len(ids) // 3:
        time.sleep(POLL_S)
    (urgent,) = _submit(pool, paths[:1], HIGHEST_PRIORITY)
    _until_ready(pool, [*ids, urgent])
    say(f"load {psutil.getloadavg()[0]:.2f}")
    row = _one(pool, _FIGURES, ids)
    share = _one(pool, _SHARES)
    return Figures(
        processing_s=row["processing_s"],
        run_s=row["run_s"],
        videos_per_s=len(ids) / row["all_s"],
        urgent_s=_time_of(pool, urgent),
        alone_s=statistics.median(alone_s),
        queue_share=share["queue_share"],
        ledger_share=share["ledger_share"],
    )


def _submit(pool: Pool, paths: Sequence[str], priority: int = 0) -> list[UUID]:
    return submit(pool, OWNER, [Submission(uri=path, priority=priority) for path in paths])


def _until_ready(pool: Pool, ids: list[UUID]) -> list[UUID]:
    while _ready(pool, ids) < len(ids):
        time.sleep(POLL_S)
    return ids


def _ready(pool: Pool, ids: Sequence[UUID]) -> int:
    row = _one(
        pool,
        "SELECT count(*) FILTER (WHERE status = 'READY') AS ready, count(*) FILTER (WHERE status = 'FAILED') AS failed "
        "FROM videos WHERE id = ANY (%s)",
        list(ids),
    )
    if row["failed"]:
        raise SystemExit(f"{row['failed']} videos are FAILED")
    return int(row["ready"])


def _time_of(pool: Pool, video_id: UUID) -> float:
    statement = "SELECT extract(epoch FROM processing_finished_at - queued_at)::float8 AS s FROM videos WHERE id = %s"
    return float(_one(pool, statement, video_id)["s"])


_FIGURES = """
WITH runs AS (
    SELECT v.id, v.processing_duration_ms, v.queued_at, v.processing_finished_at,
           sum(r.run_ms) FILTER (WHERE r.stage NOT IN ('transcription', 'scene_detection'))
           + greatest(sum(r.run_ms) FILTER (WHERE r.stage = 'transcription'),
                      sum(r.run_ms) FILTER (WHERE r.stage = 'scene_detection')) AS run_ms
    FROM videos AS v JOIN video_stage_runs AS r ON r.video_id = v.id
    WHERE v.id = ANY (%s) GROUP BY v.id
)
SELECT (avg(processing_duration_ms) / 1000)::float8 AS processing_s, (avg(run_ms) / 1000)::float8 AS run_s,
       extract(epoch FROM max(processing_finished_at) - min(queued_at))::float8 AS all_s
FROM runs
"""

_SHARES = """
SELECT (SELECT queue_time_pct FROM get_admin_queue_analysis(1))::float8 AS queue_share,
       (100 * sum(extract(epoch FROM r.started_at - v.queued_at))
            / sum(extract(epoch FROM v.processing_finished_at - v.queued_at)))::float8 AS ledger_share
FROM videos AS v JOIN video_stage_runs AS r ON r.video_id = v.id AND r.stage = 'downloading'
"""


def _one(pool: Pool, statement: str, *parameters: object) -> dict[str, Any]:
    with pool.connection() as connection:
        row = connection.execute(statement, parameters).fetchone()
    assert row is not None
    return row


if __name__ == "__main__":
    for line in compare(1, False, lambda text: print(text, flush=True)):
        print(f"{line.title}: {line.ratio:.2f}", line.wrong or "", flush=True)
