"""Ways of doing the same work, timed in turn: A B A B, after a first round whose outputs are compared.

A figure is a ratio within one run, never a time: machines differ and drift, what is done one after the other in turn
drifts together.
"""

import math
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Output = TypeVar("Output")


@dataclass(frozen=True)
class Spent:
    """The cost of one round: by the clock, and of all CPUs by this process, its threads and its ended children.

    ``cpu_s`` is not a number where it was not counted.
    """

    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Side(Generic[Output]):
    """One of the ways: what people call it, and a round of it.

    A round that runs in processes of others returns what it took there, as ``Spent``.
    """

    name: str
    work: Callable[[], Output]


@dataclass(frozen=True)
class Comparison:
    """A line of the table.

    ``measure``: ``cpu`` or ``wall``, what the reach is about. ``gate``: what was compared and how, with both figures;
    ``wrong`` says what did not hold, and the ratio counts for nothing then. ``limit``: where the reach is out of reach,
    the measurement that shows how far one can come.
    """

    title: str
    ours: str
    against: str
    measure: str
    reach: float
    of_ours: Sequence[Spent]
    of_theirs: Sequence[Spent]
    gate: str
    wrong: str | None = None
    limit: str = ""
    details: Sequence[str] = field(default_factory=tuple)

    @property
    def ratios(self) -> list[float]:
        """Theirs over ours, round by round."""
        pairs = zip(self.of_theirs, self.of_ours, strict=True)
        return [_of(theirs, self.measure) / _of(ours, self.measure) for theirs, ours in pairs]

    @property
    def ratio(self) -> float:
        """The median round."""
        return statistics.median(self.ratios)

    @property
    def is_reached(self) -> bool:
        """Whether the outputs are as good and the ratio is what it should be."""
        return self.wrong is None and self.ratio >= self.reach


def in_turn(sides: Sequence[Side[Any]], rounds: int, say: Callable[[str], None] = lambda _: None) -> list[list[Spent]]:
    """Time all sides ``rounds`` times in turn. The caller has run each once before: nothing is cold."""
    spent: list[list[Spent]] = [[] for _ in sides]
    for number in range(rounds):
        for side, into in zip(sides, spent, strict=True):
            output, spent_here = timed(side.work)
            into.append(output if isinstance(output, Spent) else spent_here)
            cpu = "" if math.isnan(into[-1].cpu_s) else f", CPU {into[-1].cpu_s:.2f} s"
            say(f"round {number + 1} of {rounds}: {side.name} {into[-1].wall_s:.2f} s{cpu}")
    return spent


def timed(work: Callable[[], Output]) -> tuple[Output, Spent]:
    """The result of ``work`` and what it took."""
    cpu_s, began_s = _cpu_s(), time.monotonic()
    output = work()
    return output, Spent(time.monotonic() - began_s, _cpu_s() - cpu_s)


def _cpu_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _of(spent: Spent, measure: str) -> float:
    return spent.wall_s if measure == "wall" else spent.cpu_s
