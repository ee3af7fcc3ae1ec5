"""The results of the search benchmarks, as people read them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cluster.contracts.search import Retriever
from cluster.search.service import LIST_DEPTH
from tests.benchmarks.search_engines import Filled
from tests.benchmarks.search_latency import AGAIN, BARE, MODELS, REACH, WHOLE, CommonWord, Latencies
from tests.benchmarks.search_recall import NEAREST, OWNERS, Recall
from tests.benchmarks.search_recall import REACH as RECALL_REACH


@dataclass(frozen=True)
class Found:
    """All that was measured of one engine with so many scenes."""

    engine: str
    scenes: int
    filled: Filled
    recalls: Sequence[Recall]
    latencies: Latencies
    common: Sequence[CommonWord]


def section(found: Found, machine: str) -> tuple[str, str]:
    """Its title and, with the title, its text."""
    title = f"## {found.engine}, {found.scenes:,} scenes"
    made_by = f"{machine}. Made by `make bench-search SCENES={found.scenes}`."
    parts = [
        [title],
        [made_by],
        _recall(found.recalls),
        *_latency(found),
        _common(found.common),
        _filling(found.filled),
    ]
    return title, "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _recall(recalls: Sequence[Recall]) -> list[str]:
    queries = recalls[0].queries
    return [
        f"Of the {NEAREST} nearest scenes, by comparing all, so many are found: the mean of {queries} queries.",
        "",
        f"| list | owner of | {NEAREST} asked for | first {NEAREST} of {LIST_DEPTH}, as a search asks | reach | |",
        "|---|---:|---:|---:|---:|---|",
        *(
            f"| {one.by} | {OWNERS[one.owner]} | **{one.asked_ten:.4f}** | **{one.asked_deep:.4f}** "
            f"| {RECALL_REACH} | {_verdict(min(one.asked_ten, one.asked_deep) >= RECALL_REACH)} |"
            for one in recalls
        ),
    ]


def _latency(found: Found) -> Iterator[list[str]]:
    latencies, bare = found.latencies, f"bare {found.engine}"
    names = {
        WHOLE: "`GET /v1/search`",
        AGAIN: "the same once more, when the models need not be asked",
        MODELS: "the two models alone",
        BARE: f"{bare}: three lists, ready-made vectors",
        **{f"{BARE}: {by}": f"its list by {by}" for by in Retriever},
    }
    yield [
        f"One request at a time, {len(latencies.ms[WHOLE])} different queries of 1 to 4 words, each asked in every way "
        "in turn.",
        "",
        "| what | p50 ms | p95 ms | p99 ms |",
        "|---|---:|---:|---:|",
        *(
            "| {} | {:.1f} | {:.1f} | {:.1f} |".format(name, *latencies.percentiles(part))
            for part, name in names.items()
        ),
    ]
    whole, again = latencies.ratio(WHOLE), latencies.ratio(AGAIN)
    yield [
        f"| p95 against {bare} | ratio | reach | |",
        "|---|---:|---:|---|",
        f"| the request | **{whole:.2f}** | {REACH:g} | {_verdict(whole <= REACH)} |",
        f"| without what the models take | **{again:.2f}** | {REACH:g} | {_verdict(again <= REACH)} |",
    ]


def _common(words: Sequence[CommonWord]) -> list[str]:
    return [
        "Very common words alone:",
        "",
        "| word | scenes that have it | list by words, ms | `GET /v1/search`, ms |",
        "|---|---:|---:|---:|",
        *(f"| {one.word} | {one.scenes:,} | {one.words_ms:.0f} | {one.request_ms:.0f} |" for one in words),
    ]


def _filling(filled: Filled) -> list[str]:
    indexes = (f"{name} {spent_s:.0f} s, {size >> 20:,} MiB" for name, (spent_s, size) in filled.indexes.items())
    return [f"Storing took {filled.stored_s:.0f} s, then the indexes: {'; '.join(indexes)}."]


def _verdict(reached: bool) -> str:
    return "reached" if reached else "not reached"
