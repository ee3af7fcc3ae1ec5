"""Videos on a real Ray of several nodes while workers, nodes, schedulers or all are killed with SIGKILL.

``python -m tests.chaos.ray_kills --seed 1``. The schedulers, their actors and pools are the cluster's own, the workers
those of ``toy_way``. Kills are spread over the run by how many videos have ended; workers hold still when they are
ahead of it, so that there is work under way whenever a process is killed.
"""

import argparse
import math
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from uuid import UUID

from cluster.contracts.stages import Stage
from cluster.contracts.videos import SETTLED, Submission
from cluster.store.postgres.connections import Pool, open_pool
from cluster.store.postgres.embedded import EmbeddedPostgres
from cluster.store.postgres.migrations import apply_migrations
from cluster.store.queue.submissions import submit
from tests.chaos.invariants import watch
from tests.chaos.ray_report import Counts, report
from tests.chaos.ray_troubles import Troubles
from tests.chaos.toy_way import HOLD, ToyPlan, left_in, toy_uri

SETTINGS = {"fsync": "off", "full_page_writes": "off"}
PATIENCE_S = 300.0
"""Longest time without a video that ends and without a kill."""
STRENGTH_S = 60.0
HURRIED_SHARE = 0.2
"""Of the kills, those that are not waited for before the next one."""
LAST_SHARE = 0.95
"""The last kill comes when so many of the videos have ended."""
PAUSE_S = 0.3
MAX_IN_FLIGHT = 8
WORKER_CPUS = 0.5
"""Ray fills half of a node's CPUs before it turns to the next one."""
ALONE: list[tuple[str, Stage]] = [
    ("sigkill", Stage.DOWNLOADING),
    ("exit", Stage.METADATA),
    ("segv", Stage.SCENE_DETECTION),
]
ALONE += [("sigkill", Stage.INDEXING), ("exit", Stage.INDEXING)]
"""Deaths by a video's own doing, in stages where it shares a call with no other video."""
REPORTED: list[tuple[str, Stage]] = [
    (fault, stage) for fault in ("raise", "malformed") for stage in Stage if stage is not Stage.FINALIZING
]

Progress = Callable[[str], None]


@dataclass(frozen=True)
class RaySize:
    """Numbers of videos, of which some are at fault themselves, of nodes for workers, and of kills.

    ``media`` workers, and ``others`` of every other kind, belong to each scheduler.
    """

    videos: int = 300
    faulty: int = 24
    owners: int = 6
    nodes: int = 3
    media: int = 3
    others: int = 2
    worker_kills: int = 60
    node_kills: int = 20
    scheduler_kills: int = 10
    cluster_kills: int = 5

    def kills(self, rng: random.Random) -> list[str]:
        """The kills in their order; the ends of whole clusters are evenly spaced."""
        kinds = ["worker"] * self.worker_kills + ["node"] * self.node_kills + ["scheduler"] * self.scheduler_kills
        rng.shuffle(kinds)
        share = (len(kinds) + self.cluster_kills) / (self.cluster_kills + 1)
        for number in range(self.cluster_kills):
            kinds.insert(round((number + 1) * share), "cluster")
        return kinds


class _Stuck(Exception):
    """Nothing moves any more."""


class _Course:
    """Videos and kills, paced by one another."""

    def __init__(
        self, size: RaySize, troubles: Troubles, pool: Pool, hold: Path, rng: random.Random, progress: Progress
    ) -> None:
        self._size = size
        self._rng = rng
        self._troubles = troubles
        self._pool = pool
        self._hold = hold
        self._progress = progress
        self._moved = (-1, -1)
        self._moved_s = 0.0

    def kill_all_through(self, kinds: list[str]) -> None:
        """Each kill when it is due."""
        share = self._size.videos * LAST_SHARE / (len(kinds) + 1)
        for number, kind in enumerate(kinds, 1):
            while not self._troubles.hurried and self._look(number) < math.floor(number * share):
                self._let_run(True)
                time.sleep(0.1)
            began_s = time.monotonic()
            self._troubles.hurried = number < len(kinds) and self._rng.random() < HURRIED_SHARE
            while not self._troubles.kinds[kind]():
                self._let_run(self._look(number) < math.floor((number + 1) * share))
                time.sleep(0.05)
            self._progress(f"kill {number} of {len(kinds)}: {kind}, {time.monotonic() - began_s:.1f} s")
            self._let_run(self._look(number) < math.floor((number + 1) * share))

    def work_off(self) -> None:
        """Until every video has ended."""
        self._let_run(True)
        while self._look(0) < self._size.videos:
            time.sleep(0.2)

    def _let_run(self, free: bool) -> None:
        if free:
            self._hold.unlink(missing_ok=True)
        else:
            self._hold.touch()

    def _look(self, kills: int) -> int:
        """Number of videos that have ended. Raises _Stuck when for long nothing has changed."""
        self._troubles.check_comebacks()
        with self._pool.connection() as connection:
            row = connection.execute(
                "SELECT count(*) AS n FROM videos WHERE status::text = ANY (%s)", (list(SETTLED),)
            ).fetchone()
        assert row is not None
        ended: int = row["n"]
        if (ended, kills) != self._moved:
            self._moved, self._moved_s = (ended, kills), time.monotonic()
        if time.monotonic() - self._moved_s > PATIENCE_S:
            raise _Stuck(f"nothing has moved for {PATIENCE_S:.0f} s: {ended} of {self._size.videos} videos have ended")
        return ended


def run(seed: int, size: RaySize | None = None, progress: Progress | None = None) -> Counts:
    """Work off videos while Ray is killed around them; then check everything."""
    size, rng = size or RaySize(), random.Random(seed)
    began_s = time.monotonic()
    with _folder() as folder, _database(folder / "postgres") as url, open_pool(url, max_size=4, name="chaos") as pool:
        journal, scratch = folder / "journal", folder / "scratch"
        journal.mkdir()
        plan = ToyPlan(
            url,
            scratch,
            size.media,
            MAX_IN_FLIGHT,
            PAUSE_S,
            others=size.others,
            cpus=WORKER_CPUS,
            journal_dir=journal,
            share_calls=False,
        )
        troubles = Troubles(plan, pool, folder, size.nodes, rng)
        course = _Course(size, troubles, pool, journal / HOLD, rng, progress or (lambda _: None))
        kills = size.kills(rng)
        _submit(pool, size, rng)
        try:
            troubles.begin()
            course.kill_all_through(kills)
            course.work_off()
            troubles.check_strength(STRENGTH_S)
            troubles.violations += left_in(scratch)
            troubles.end()
        except (_Stuck, RuntimeError) as error:
            troubles.violations.append(str(error))
        finally:
            troubles.abandon()
        return report(seed, troubles, pool, time.monotonic() - began_s)


def _submit(pool: Pool, size: RaySize, rng: random.Random) -> None:
    """Healthy videos and faulty ones, shuffled, from several owners."""
    chosen = [rng.choice(ALONE + REPORTED) for _ in range(size.faulty)]
    uris = [toy_uri(number, fault, stage) for number, (fault, stage) in enumerate(chosen)]
    uris += [toy_uri(number) for number in range(size.faulty, size.videos)]
    rng.shuffle(uris)
    for owner in range(size.owners):
        submit(pool, UUID(int=owner + 1), [Submission(uri=uri) for uri in uris[owner :: size.owners]])


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hx-ray-"))  # a short path: Ray has its sockets in it
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _database(folder: Path) -> Iterator[str]:
    """A server with the cluster's tables and the audit."""
    server = EmbeddedPostgres(folder, SETTINGS)
    url = server.start()
    try:
        apply_migrations(url)
        watch(url)
        yield url
    finally:
        server.stop()


def main() -> int:
    """Run from the command line; exits with 1 when there are violations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    usual = RaySize()
    names = [field.name for field in fields(RaySize)]
    for name in names:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(usual, name))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    size = RaySize(**{name: getattr(options, name) for name in names})
    counts = run(options.seed, size, lambda line: print(line, flush=True))
    print(*counts.lines(), sep="\n")
    return 1 if counts.violations else 0


if __name__ == "__main__":
    sys.exit(main())
