"""Actions of a scheduler and an owner until one dies, and how its moment is set: the processes of ``crash_points``.

Points are found by watching the driver itself: every statement that changes something, and every commit after one.
"""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import psycopg

from cluster.contracts.stages import Blame, Stage
from cluster.store.queue.reprocessing import retry
from cluster.store.queue.submissions import cancel, submit
from tests.chaos.cutting_proxy import kind_of
from tests.chaos.queue_plan import Plan, submission_of
from tests.chaos.queue_worker import Scheduler, WorkerConfig

LEASE_S = 600.0
"""So long that no lease expires on its own, however slow the machine is: so that each time the same is written."""
SHORT_LEASE_S = 0.02
OWNER = UUID(int=11)

_CHANGES = re.compile(rb"\b(INSERT INTO|UPDATE|DELETE FROM)\s", re.IGNORECASE)


@dataclass(frozen=True)
class CrashConfig:
    """Configuration of one process: ``dies_at`` is the number of the point; None: it lives and reports all of them."""

    worker: WorkerConfig
    scenario: str
    numbers: list[int]
    report: str
    dies_at: int | None

    @property
    def ids(self) -> list[UUID]:
        """The videos of this process."""
        return [uuid5(OWNER, str(number)) for number in self.numbers]


# What a scheduler and an owner do


def _whole_way(scheduler: Scheduler, ids: list[UUID]) -> None:
    ways = scheduler.claim()
    scheduler.beat()
    scheduler.walk(ways)


def _failures(scheduler: Scheduler, ids: list[UUID]) -> None:
    scheduler.walk(scheduler.claim())


def _hand_back(scheduler: Scheduler, ids: list[UUID]) -> None:
    scheduler.begin(scheduler.claim(), Stage.DOWNLOADING)
    scheduler.recovery.hand_back()


def _reap_own(scheduler: Scheduler, ids: list[UUID]) -> None:
    scheduler.begin(scheduler.claim(), Stage.DOWNLOADING)
    scheduler.recovery.reap_own()


def _reap(scheduler: Scheduler, ids: list[UUID]) -> None:
    scheduler.begin(scheduler.claim(), Stage.DOWNLOADING)
    time.sleep(SHORT_LEASE_S)
    scheduler.recovery.reap()


def _cancel_and_retry(scheduler: Scheduler, ids: list[UUID]) -> None:
    cancel(scheduler.database, ids[:1])
    scheduler.begin(scheduler.claim(), Stage.DOWNLOADING)
    cancel(scheduler.database, ids[1:])
    retry(scheduler.database, ids)


@dataclass(frozen=True)
class Scenario:
    """What is done, and with which videos: whichever fit, the writes are the same ones in the same order."""

    act: Callable[[Scheduler, list[UUID]], None]
    videos: list[Callable[[Plan], bool]]
    lease_s: float = LEASE_S
    new_model: bool = False
    """Whether its vectors are the first ones of their model."""


def _is_whole(plan: Plan) -> bool:
    return plan.blame is None and plan.scenes > 0 and plan.has_media


def _is_plain(plan: Plan) -> bool:
    return plan.blame is None and not plan.scenes


def _fails_for_good(plan: Plan) -> bool:
    return plan.blame is Blame.VIDEO and plan.stage is Stage.METADATA


def _fails_once(plan: Plan) -> bool:
    fails = plan.blame is Blame.ERROR and plan.times == 1 and plan.stage is Stage.SCENE_DETECTION
    return fails and plan.has_media and plan.has_transcript


SCENARIOS = {
    "whole way": Scenario(_whole_way, [_is_whole]),
    "first vectors": Scenario(_whole_way, [_is_whole], new_model=True),
    "failures": Scenario(_failures, [_fails_for_good, _fails_once]),
    "hand back": Scenario(_hand_back, [_is_plain]),
    "reap own": Scenario(_reap_own, [_is_plain]),
    "reap": Scenario(_reap, [_is_plain], SHORT_LEASE_S),
    "cancel and retry": Scenario(_cancel_and_retry, [_is_plain, _is_plain]),
}


# The process that dies


def die(argument: str) -> None:
    """Play a scenario until the point at which to die."""
    given = json.loads(argument)
    config = CrashConfig(**{**given, "worker": WorkerConfig(**given["worker"])})
    scheduler = Scheduler(config.worker)
    _Points(config).watch()
    submit(scheduler.database, OWNER, [submission_of(number) for number in config.numbers], config.ids)
    SCENARIOS[config.scenario].act(scheduler, config.ids)


@dataclass
class _Points:
    """Counts what the sessions of this process do, and ends it when the time has come."""

    config: CrashConfig
    count: int = 0
    uncommitted: dict[int, str] = field(default_factory=dict)

    def watch(self) -> None:
        """Every statement and every commit from now on."""
        execute, executemany = psycopg.Cursor.execute, psycopg.Cursor.executemany
        commit = psycopg.Connection.commit
        points = self

        def execute_watched(cursor: Any, query: Any, *arguments: Any, **keywords: Any) -> Any:
            return points.around(cursor, query, lambda: execute(cursor, query, *arguments, **keywords))

        def executemany_watched(cursor: Any, query: Any, *arguments: Any, **keywords: Any) -> Any:
            return points.around(cursor, query, lambda: executemany(cursor, query, *arguments, **keywords))

        def commit_watched(connection: Any) -> None:
            written = points.uncommitted.pop(id(connection), None)
            commit(connection)
            if written is not None:
                points.reach(f"after the commit of {written}")

        psycopg.Cursor.execute = execute_watched  # type: ignore[method-assign, assignment]
        psycopg.Cursor.executemany = executemany_watched  # type: ignore[method-assign, assignment]
        psycopg.Connection.commit = commit_watched  # type: ignore[method-assign, assignment]

    def around(self, cursor: Any, query: Any, run: Callable[[], Any]) -> Any:
        """Run a statement; right before and right after it are points, if it changes something."""
        statement = _as_bytes(query, cursor)
        if not _CHANGES.search(statement):
            return run()
        what = kind_of(statement) or " ".join(statement.decode().split())[:40]
        self.reach(f"before {what}")
        result = run()
        if not cursor.connection.autocommit:
            self.uncommitted[id(cursor.connection)] = what
        self.reach(f"after {what}")
        return result

    def reach(self, what: str) -> None:
        """Note a point; if it is the one, die without another word."""
        if self.count == self.config.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1
        with Path(self.config.report).open("a") as report:
            report.write(f"{what}\n")


def _as_bytes(query: Any, cursor: Any) -> bytes:
    """A query as psycopg sends it, in any of the forms that it takes."""
    if isinstance(query, bytes):
        return query
    return query.encode() if isinstance(query, str) else bytes(query.as_bytes(cursor))
