"""The queue alone: schedulers without Ray are killed, stopped past their leases and woken again, 100,000 videos long.

``python -m tests.chaos.queue --seed 1 --videos 100000 --kills 1000 --stops 200``
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.store.postgres.connections import EmbeddedPostgres, open_pool
from cluster.store.postgres.migrations import apply_migrations
from tests.chaos.invariants import watch
from tests.chaos.queue_load import Load, LoadSize
from tests.chaos.queue_processes import nursery
from tests.chaos.queue_report import Counts, report

SETTINGS = {"fsync": "off", "max_connections": "200", "max_wal_size": "4GB"}
"""The database may be lost when the machine goes down; but what is committed must outlive the server."""
TERMINATIONS_PER_KILL = 0.05


@contextmanager
def watched_postgres(owner_cap: int) -> Iterator[tuple[EmbeddedPostgres, Path]]:
    """A server with the cluster's tables and the audit, and a folder; both gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="heimdex-chaos-"))
    server = EmbeddedPostgres(folder / "postgres", SETTINGS)
    try:
        server.start()
        apply_migrations(server.url)
        watch(server.url, owner_cap=owner_cap, attributed=True)
        yield server, folder
    finally:
        server.stop()
        shutil.rmtree(folder)


def run(seed: int, videos: int, kills: int, stops: int, progress: Callable[[str], None] | None = None) -> Counts:
    """Work off ``videos`` while schedulers are killed and stopped; then check everything."""
    size = LoadSize(seed, videos)
    troubles = {"kill": kills, "stop": stops, "terminate": round(kills * TERMINATIONS_PER_KILL)}
    with (
        watched_postgres(size.owner_cap) as (server, folder),
        open_pool(server.url, max_size=4, name="owners") as pool,
        nursery() as schedulers,
    ):
        load = Load(size, schedulers, pool, server.url, folder / "log")
        seconds = load.run(troubles, progress or (lambda _: None))
        return report(load, pool, seconds)


def main() -> int:
    """Run from the command line; exits with 1 when there are violations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--stops", type=int, default=200)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    counts = run(options.seed, options.videos, options.kills, options.stops, lambda line: print(line, flush=True))
    print(*counts.lines(), sep="\n")
    return 1 if counts.violations else 0


if __name__ == "__main__":
    sys.exit(main())
