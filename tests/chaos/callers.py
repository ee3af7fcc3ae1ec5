"""One owner's videos, searches and health checks while another owner's searches and connections attack.

``python -m tests.chaos.callers --clips 20``
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.own_cluster import OwnCluster, own_cluster
from tests.chaos.hostile_sources import honest
from tests.chaos.sources import ATTACKER, Compared, Counts, Progress, make_clip, measure, owner_of
from tests.support.scripted_web import serving

ATTACKS = {"16 searches of 1000 letters": "searches", "2,000 half-open connections": "connections"}


def run(seed: int, clips: int = 20, progress: Progress = print) -> Counts:
    """Measure without and with each attack. Nothing here is left to chance, so ``seed`` changes nothing."""
    figures: dict[str, Compared] = {}
    with tempfile.TemporaryDirectory(prefix="hx-callers-") as name:
        folder = Path(name)
        clip = make_clip(folder)
        with (
            own_cluster(folder, HEIMDEX_PRIVATE_NETWORKS="127.0.0.0/8") as cluster,
            serving(honest(clip)) as web,
            owner_of(cluster) as owner,
        ):
            measure(owner, web.url, 3)  # models are warm
            for attack, kind in ATTACKS.items():
                alone = measure(owner, web.url, clips)
                with _attack(cluster, kind):
                    figures[attack] = Compared(alone, measure(owner, web.url, clips))
                progress(f"{attack}: {figures[attack]}")
    violations = [f"{name}: {line}" for name, compared in figures.items() for line in compared.too_slow()]
    return Counts(clips, figures, violations)


@contextmanager
def _attack(cluster: OwnCluster, kind: str) -> Iterator[None]:
    token = cluster.heimdex("token", "--sub", str(ATTACKER)).strip()
    command = [sys.executable, "-m", "tests.chaos.hostile_caller", cluster.http_url, token, kind]
    with subprocess.Popen(command) as attacker:
        try:
            yield
        finally:
            attacker.kill()


def main() -> int:
    """Run from the command line; exits with 1 when there are violations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=20)
    counts = run(1, parser.parse_args().clips, lambda line: print(line, flush=True))
    print(*counts.lines(), sep="\n")
    return 1 if counts.violations else 0


if __name__ == "__main__":
    sys.exit(main())
