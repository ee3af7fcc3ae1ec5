"""The plan of each video of a chaos run: derived from the seed and its number alone, so that its end is known before.

A video fails in one stage for a number of times, or never. A played scheduler asks ``plan_of`` what happens;
``misfits`` compares how the videos ended with how they must.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cluster.contracts.results import StageFailure
from cluster.contracts.stages import Blame, RetryRule, Setbacks, Stage
from cluster.contracts.videos import Submission
from cluster.store.postgres.connections import Pool
from tests.chaos.invariants import VIDEOS

ERROR_TYPES = {Blame.VIDEO: "InvalidVideo", Blame.ERROR: "TransientFailure", Blame.CRASH: "WorkerLost"}
RULE = RetryRule(first_delay_s=0.05, max_delay_s=1.0)
"""The cluster's own limits; only the pauses are shorter."""

_FAILING_SHARE = 0.12
_TRANSCRIPT_SHARE = 0.2
_MEDIA_SHARE = 0.3
_SCENES_SHARE = 0.08


@dataclass(frozen=True)
class Plan:
    """``blame`` in ``stage`` as long as fewer than ``times`` attempts ended so; None: nothing goes wrong."""

    blame: Blame | None
    stage: Stage
    times: int
    has_media: bool
    has_transcript: bool
    scenes: int

    def fails(self, stage: Stage, setbacks: Setbacks) -> StageFailure | None:
        """The failure of the stage in an attempt that was preceded by ``setbacks``; None: it succeeds."""
        suffered = {Blame.VIDEO: 0, Blame.ERROR: setbacks.errors, Blame.CRASH: setbacks.crashes}
        if self.blame is None or stage is not self.stage or suffered[self.blame] >= self.times:
            return None
        return StageFailure(ERROR_TYPES[self.blame], f"as planned, after {setbacks}", self.blame)

    @property
    def failed_type(self) -> str | None:
        """The type of error with which the video ends FAILED; None: it becomes READY."""
        limit = {Blame.VIDEO: 1, Blame.ERROR: RULE.max_errors, Blame.CRASH: RULE.max_crashes}
        if self.blame is None or self.times < limit[self.blame]:
            return None
        return ERROR_TYPES[self.blame]


def plan_of(seed: int, number: int) -> Plan:
    """The plan of one video."""
    rng = random.Random(f"{seed}/{number}")
    blame = rng.choice([Blame.VIDEO, Blame.ERROR, Blame.ERROR, Blame.CRASH]) if rng.random() < _FAILING_SHARE else None
    has_scenes = rng.random() < _SCENES_SHARE
    return Plan(
        blame=blame,
        stage=rng.choice([stage for stage in Stage if stage is not Stage.FINALIZING]),
        times=rng.randint(1, 3),
        has_media=rng.random() < _MEDIA_SHARE,
        has_transcript=has_scenes or rng.random() < _TRANSCRIPT_SHARE,
        scenes=rng.randint(1, 4) if has_scenes else 0,
    )


def submission_of(number: int, priority: int = 0) -> Submission:
    """The video's submission: its number is in its name."""
    return Submission(uri=f"/videos/{number:07d}.mp4", priority=priority)


def number_of(uri: str) -> int:
    """The number of a video that ``submission_of`` made."""
    return int(uri.removeprefix("/videos/").removesuffix(".mp4"))


def misfits(pool: Pool, seed: int, submitted: Mapping[UUID, int], cancelled: set[UUID]) -> list[str]:
    """Videos lost, invented, or ended other than planned; ``cancelled`` are those that an owner asked to cancel."""
    with pool.connection() as connection:
        rows = connection.execute(
            f"""
            SELECT v.id, v.storage_path AS uri, v.status::text, v.processing_stage, v.error_type, v.interruptions,
                   s.scenes, s.tokens, t.video_id IS NOT NULL AS has_transcript,
                   v.file_size_bytes IS NOT NULL AS has_media
            FROM {VIDEOS} AS v
            LEFT JOIN (SELECT video_id, count(*) AS scenes, count(DISTINCT thumbnail_url) AS tokens
                       FROM video_scenes GROUP BY 1) AS s ON s.video_id = v.id
            LEFT JOIN video_transcripts AS t ON t.video_id = v.id
            """
        ).fetchall()
    found = {row["id"]: row for row in rows}
    lost, invented = submitted.keys() - found.keys(), found.keys() - submitted.keys()
    wrong = [f"{len(lost)} videos are lost"] if lost else []
    wrong += [f"{len(invented)} videos are invented"] if invented else []
    for video_id in submitted.keys() & found.keys():
        row = found[video_id]
        if number_of(row["uri"]) != submitted[video_id]:
            wrong.append(f"video {video_id} is not the one that was submitted")
        plan = plan_of(seed, submitted[video_id])
        wrong += [f"video {video_id}: {fault}" for fault in _faults(row, plan, video_id in cancelled)]
    return wrong


def _faults(row: dict[str, Any], plan: Plan, may_be_cancelled: bool) -> Iterator[str]:
    ended = (row["status"], row["processing_stage"], row["error_type"])
    if row["status"] == "READY":
        if plan.failed_type is not None:
            yield f"READY, though it must fail: {plan}"
        if (row["scenes"] or 0) != plan.scenes or (row["tokens"] or 0) > 1:
            yield f"{row['scenes']} scenes under {row['tokens']} leases, not {plan.scenes} under one"
        if row["has_transcript"] != (plan.scenes > 0) or row["has_media"] < plan.has_media:
            yield "its transcript or what the probe found is missing"
    elif row["status"] == "FAILED":
        by_interruptions = row["interruptions"] >= RULE.max_interruptions
        if ended[1:] != (plan.stage.value, plan.failed_type) and not by_interruptions:
            yield f"{ended}, though this was planned: {plan}"
    elif not may_be_cancelled:
        yield f"{ended}, though nobody cancelled it"
