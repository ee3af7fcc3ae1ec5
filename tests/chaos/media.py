"""Hostile media: hand-made and mutated files go the way of a video through the media stages, in confined decoders.

Owns what counts as a violation: an error that is none of the cluster's own, a file past its deadline, a worker above
its bound of memory, anything left behind, and a hand-made file that ends other than it must. A worker that dies is no
violation (the pool replaces it) but is listed, and so is a decoder.
``python -m tests.chaos.media --seed 1 --mutated 2000``.
"""

import argparse
import dataclasses
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from cluster.contracts.errors import InvalidVideo, SourceChanging
from cluster.contracts.media import MediaLimits
from cluster.contracts.stages import DEADLINES, Stage
from cluster.settings import Settings
from tests.chaos.hostile_file import HostileFile
from tests.chaos.hostile_media import hostile_files
from tests.chaos.mutated_media import mutated_files
from tests.chaos.watched_worker import Ending, WatchedWorker

DEADLINE_S = DEADLINES[Stage.METADATA].fixed_s
"""For one file through all stages: no stage has less for itself."""
MEMORY_BOUND_BYTES = int(1.5 * 2**30)
LIMITS = MediaLimits(
    **{limit.name: Settings.model_fields[limit.name].default for limit in dataclasses.fields(MediaLimits)}
)
LONGEST_SENTENCE = 300


@dataclass(frozen=True)
class Counts:
    """What was run and how it ended. ``died`` and ``violations`` name the file, and how to make it again."""

    seed: int
    handmade: int
    mutated: int
    outcomes: dict[str, int]
    worst_s: float
    worst_bytes: int
    died: list[str]
    violations: list[str]

    def lines(self) -> Iterator[str]:
        """As people read it."""
        yield f"seed {self.seed}: {self.handmade} hand-made files, {self.mutated} mutated ones"
        yield f"ended {self.outcomes}"
        yield f"slowest {self.worst_s:.1f} s, most memory {self.worst_bytes / 2**20:.0f} MiB"
        yield f"workers that died {len(self.died)}"
        yield from (f"DIED {line}" for line in self.died)
        yield f"violations {len(self.violations)}"
        yield from (f"VIOLATION {line}" for line in self.violations)


def run(seed: int, mutated: int, handmade: bool = True, progress: Callable[[str], None] | None = None) -> Counts:
    """Run the hand-made files and ``mutated`` others made from ``seed``; ``progress`` gets how each one ended."""
    verdict = Verdict(progress)
    with tempfile.TemporaryDirectory(prefix="heimdex-media-") as name:
        folder = Path(name)
        with closing(WatchedWorker(folder / "scratch", LIMITS, DEADLINE_S)) as worker:
            if handmade:
                with closing(hostile_files(folder / "handmade")) as files:
                    for file in files:
                        verdict.judge_handmade(file, worker.take(file.uri, file.meanwhile))
            with closing(mutated_files(seed, mutated, folder)) as damaged_files:
                for damaged in damaged_files:
                    what = f"mutated {damaged.number} of seed {seed} ({damaged.what})"
                    verdict.judge_mutated(what, worker.take(str(damaged.path)))
    return verdict.counts(seed)


@dataclass
class Verdict:
    """Counts how files ended and says which of them broke a rule."""

    progress: Callable[[str], None] | None = None
    _kinds: Counter[str] = field(default_factory=Counter)
    _outcomes: Counter[str] = field(default_factory=Counter)
    _worst_s: float = 0.0
    _worst_bytes: int = 0
    _died: list[str] = field(default_factory=list)
    _violations: list[str] = field(default_factory=list)

    def judge_handmade(self, file: HostileFile, ending: Ending) -> None:
        """Count a hand-made file, of which is known what must become of it."""
        self._kinds["handmade"] += 1
        may_wait = file.meanwhile is not None and ending.outcome == SourceChanging.__name__
        self._judge(f"handmade {file.name}", ending, () if may_wait else (*_faults(ending), *file.faults(ending)))

    def judge_mutated(self, what: str, ending: Ending) -> None:
        """Count a mutated file, which may be readable or not."""
        self._kinds["mutated"] += 1
        self._judge(what, ending, _faults(ending))

    def _judge(self, what: str, ending: Ending, faults: Iterable[str]) -> None:
        if self.progress:
            self.progress(f"{what} {ending.seconds:.2f} s {ending.peak_bytes >> 20} MiB {ending}")
        self._outcomes[ending.outcome] += 1
        self._worst_s = max(self._worst_s, ending.seconds)
        self._worst_bytes = max(self._worst_bytes, ending.peak_bytes)
        if ending.outcome == "died":
            self._died.append(f"{what}: {ending}")
        self._violations += [f"{what}: {fault}" for fault in faults]

    def counts(self, seed: int) -> Counts:
        """The sum of it all."""
        return Counts(
            seed,
            self._kinds["handmade"],
            self._kinds["mutated"],
            dict(self._outcomes),
            self._worst_s,
            self._worst_bytes,
            self._died,
            self._violations,
        )


def _faults(ending: Ending) -> Iterator[str]:
    """What no file may do, whatever it is."""
    if ending.outcome == "defect":
        yield f"{ending.message}\n{ending.traceback}"
    elif ending.outcome == "hung":
        yield f"not done after {ending.seconds:.1f} s"
    elif ending.outcome == InvalidVideo.__name__:
        if not _is_sentence(ending.message):
            yield f"no sentence for people: {ending.message!r}"
    elif ending.outcome not in {"ready", "died"}:
        yield f"the file is at fault, not the machine: {ending}"
    if ending.peak_bytes > MEMORY_BOUND_BYTES:
        yield f"{ending.peak_bytes >> 20} MiB of memory"
    yield from (f"left behind: {thing}" for thing in ending.left_behind)


def _is_sentence(message: str) -> bool:
    return (
        message.isprintable() and "Errno" not in message and message.count(" ") > 1 and len(message) <= LONGEST_SENTENCE
    )


def main() -> int:
    """Run from the command line; prints the counts, and exits with 1 when there are violations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutated", type=int, default=2000)
    parser.add_argument("--only-mutated", action="store_true", help="without the hand-made files")
    parser.add_argument("--verbose", action="store_true", help="how each file ended")
    options = parser.parse_args()
    counts = run(options.seed, options.mutated, not options.only_mutated, print if options.verbose else None)
    print(*counts.lines(), sep="\n")
    return 1 if counts.violations else 0


if __name__ == "__main__":
    sys.exit(main())
