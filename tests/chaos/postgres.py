"""Postgres under the queue's load: stopped at once and started again, sessions terminated, answers of commits cut off.

``python -m tests.chaos.postgres --seed 1``
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.store.postgres.connections import EmbeddedPostgres, connect, open_pool
from cluster.store.postgres.embedded import HERE
from tests.chaos.cutting_proxy import ANY, WRITES, CuttingProxy, cutting_proxy
from tests.chaos.queue import watched_postgres
from tests.chaos.queue_load import Load, LoadSize
from tests.chaos.queue_processes import nursery
from tests.chaos.queue_report import Counts, report

IMPATIENCE_S = 1.0
"""After this long without the write that was waited for, any other one is cut."""
LONGEST_AWAY_S = 0.5


@dataclass(frozen=True)
class PostgresSize:
    """Numbers of the faults of Postgres, and of its clients beside it."""

    videos: int = 25_000
    immediate_stops: int = 20
    terminated_backends: int = 100
    cut_commits: int = 120
    kills: int = 40
    stops: int = 10


class _PostgresTroubles:
    """Faults of the server and of its sessions."""

    def __init__(self, load: Load, server: EmbeddedPostgres, proxy: CuttingProxy) -> None:
        self._load = load
        self._server = server
        self._proxy = proxy
        self._armed_s = 0.0
        self._kinds: list[str] = []
        load.troubles |= {
            "immediate stop": self._stop_at_once,
            "terminated backend": self._terminate_backend,
            "cut": self._cut,
        }

    def _stop_at_once(self) -> bool:
        done = self._server._run("pg_ctl", "stop", "-m", "immediate", "-w", "-D", HERE)
        assert done.returncode == 0, done.stdout
        time.sleep(self._load.rng.uniform(0.0, LONGEST_AWAY_S))
        self._server.start()
        return True

    def _terminate_backend(self) -> bool:
        """In half of the calls, only one that is running a query or a transaction."""
        only_busy = self._load.rng.random() < 0.5
        with connect(self._server.url, autocommit=True) as connection:
            row = connection.execute(
                """
                SELECT pg_terminate_backend(pid) AS done FROM pg_stat_activity
                WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND (state <> 'idle' OR NOT %s)
                ORDER BY random() LIMIT 1
                """,
                (only_busy,),
            ).fetchone()
        return row is not None and row["done"]

    def _cut(self) -> bool:
        """Wait for one kind of write after the other; the next trouble of this kind comes when it was cut."""
        now_s = time.monotonic()
        if self._proxy.armed is not None:
            if now_s - self._armed_s > IMPATIENCE_S:
                self._proxy.arm(ANY)
            return False
        if not self._kinds:
            self._kinds = self._load.rng.sample(sorted(WRITES), len(WRITES))
        self._armed_s = now_s
        self._proxy.arm(self._kinds.pop())
        return True


def run(seed: int, size: PostgresSize | None = None, progress: Callable[[str], None] | None = None) -> Counts:
    """Work off videos while Postgres is troubled; then check everything."""
    size = size or PostgresSize()
    troubles = {
        "immediate stop": size.immediate_stops,
        "terminated backend": size.terminated_backends,
        "cut": size.cut_commits,
        "kill": size.kills,
        "stop": size.stops,
    }
    load_size = LoadSize(seed, size.videos)
    with watched_postgres(load_size.owner_cap) as (server, folder), cutting_proxy(_open(folder), server.url) as proxy:
        with open_pool(proxy.url, max_size=4, name="owners") as owners, nursery() as schedulers:
            load = Load(load_size, schedulers, owners, proxy.url, folder / "log")
            _PostgresTroubles(load, server, proxy)
            seconds = load.run(troubles, progress or (lambda _: None))
        del load.done["cut"]
        load.done |= {f"cut after {kind}": count for kind, count in sorted(proxy.cuts.items())}
        with open_pool(server.url, max_size=1, name="report") as pool:
            return report(load, pool, seconds)


def _open(folder: Path) -> Path:
    """A folder for the proxy's socket."""
    own = folder / "proxy"
    own.mkdir()
    return own


def main() -> int:
    """Run from the command line; exits with 1 when there are violations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--videos", type=int, default=PostgresSize.videos)
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # the owners' sessions break too
    print(f"seed {options.seed}", flush=True)
    size = replace(PostgresSize(), videos=options.videos)
    counts = run(options.seed, size, lambda line: print(line, flush=True))
    print(*counts.lines(), sep="\n")
    return 1 if counts.violations else 0


if __name__ == "__main__":
    sys.exit(main())
