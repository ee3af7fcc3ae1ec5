"""The parts of ``make chaos``: each in its full size, and what it says of itself in a line of the table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.chaos import (
    callers,
    crash_points,
    faults,
    guards,
    media,
    postgres,
    queue,
    ray_kills,
    ray_report,
    reembed_kills,
    refused_tokens,
    refused_uris,
    search_faults,
    sources,
)
from tests.chaos import rights as sql_rights
from tests.chaos.queue_report import Counts

REPEATS = 5
MUTATED = 2000
VIDEOS, KILLS, STOPS = 100_000, 1000, 200

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """``done``: what was run, counted; ``violations``: a sentence for each."""

    done: str
    violations: list[str]


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())


def uris(seed: int, progress: Progress) -> Outcome:
    counts = refused_uris.run(seed)
    return Outcome(f"{counts.cases:,} URIs and redirects that must be refused", counts.violations)


def tokens(seed: int, progress: Progress) -> Outcome:
    counts = refused_tokens.run(seed)
    routes = len(refused_tokens.ROUTES)
    return Outcome(f"{counts.cases:,} requests with bad tokens to {routes} routes", counts.violations)


def rights(seed: int, progress: Progress) -> Outcome:
    counts = sql_rights.run()
    objects = f"{counts.functions} SQL functions and {counts.relations} tables and sequences"
    return Outcome(f"{objects} as {counts.roles} roles", counts.violations)


def guard(seed: int, progress: Progress) -> Outcome:
    counts = guards.run(seed, progress)
    noticed = f"{counts.noticed} noticed by {counts.tests} tests"
    return Outcome(f"{counts.guards} guards removed, one at a time; {noticed}", counts.violations)


def crashes(seed: int, progress: Progress) -> Outcome:
    counts = crash_points.run(seed, progress)
    points = f"{sum(counts.points.values())} deaths in {len(counts.points)} scenarios"
    return Outcome(f"{points}, before and after each of {len(counts.writes)} kinds of write", counts.violations)


def queue_alone(seed: int, progress: Progress) -> Outcome:
    counts = queue.run(seed, VIDEOS, KILLS, STOPS, progress)
    return Outcome(_of_queue(counts), counts.violations)


def database(seed: int, progress: Progress) -> Outcome:
    counts = postgres.run(seed, progress=progress)
    return Outcome(_of_queue(counts), counts.violations)


def _of_queue(counts: Counts) -> str:
    refused = f"{sum(counts.refused.values()):,} stale writes refused"
    return f"{counts.videos:,} videos ({_listed(counts.ended)}); {_listed(counts.troubles)}; {refused}"


def hostile_media(seed: int, progress: Progress) -> Outcome:
    counts = media.run(seed, MUTATED, progress=progress)
    files = f"{counts.handmade} hand-made files, {counts.mutated:,} mutated ones ({_listed(counts.outcomes)})"
    worst = f"slowest {counts.worst_s:.1f} s, most memory {counts.worst_bytes / 2**20:.0f} MiB"
    return Outcome(f"{files}; {worst}; {len(counts.died)} workers died", counts.violations)


def fault_matrix(seed: int, progress: Progress) -> Outcome:
    with faults.own_ray():
        counts = faults.run(seed, REPEATS, progress=progress)
    cases = f"{len(faults.all_cases())} faults of stages, {REPEATS} times each"
    return Outcome(f"{cases}, beside {counts.healthy} healthy videos", counts.violations)


def ray(seed: int, progress: Progress) -> Outcome:
    counts = ray_kills.run(seed, progress=progress)
    return Outcome(_of_ray(counts), counts.violations)


def search(seed: int, progress: Progress) -> Outcome:
    engine = search_faults.run(seed, progress=progress)
    models = reembed_kills.run(seed, progress=progress)
    done = (
        f"{engine.videos} videos, OpenSearch killed {engine.engine_kills} times; rebuild killed {engine.builder_kills} "
        f"times, re-embedding {models.kills} times, during {engine.searches + models.searches:,} searches; "
        f"{engine.compared:,} documents compared"
    )
    return Outcome(done, engine.violations + models.violations)


def hostile_sources(seed: int, progress: Progress) -> Outcome:
    return _beside(sources.run(seed, progress=progress))


def hostile_callers(seed: int, progress: Progress) -> Outcome:
    return _beside(callers.run(seed, progress=progress))


def _beside(counts: sources.Counts) -> Outcome:
    figures = "; ".join(f"{name}: {compared}" for name, compared in counts.figures.items())
    clips = f"{counts.clips} videos of 10 s beside each attack by another owner"
    return Outcome(f"{clips}, p95: {figures}", counts.violations)


def _of_ray(counts: ray_report.Counts) -> str:
    ended = f"{sum(counts.ended.values())} videos ({_listed(counts.ended)}) in {counts.attempts} attempts"
    return f"{ended}; killed: {_listed(counts.killed)}"


PARTS: dict[str, Callable[[int, Progress], Outcome]] = {
    "uris": uris,
    "tokens": tokens,
    "rights": rights,
    "crash-points": crashes,
    "guards": guard,
    "queue": queue_alone,
    "postgres": database,
    "media": hostile_media,
    "faults": fault_matrix,
    "ray": ray,
    "search": search,
    "sources": hostile_sources,
    "callers": hostile_callers,
}
