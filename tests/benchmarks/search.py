"""``make bench-search``: how well and how fast scenes are found, by engine and by how many there are.

Recall is held against comparing all vectors, the whole request against the bare engine, in one run. The servers are the
benchmark's own and gone afterwards. A full run of 100,000 or 1,000,000 scenes replaces its section of search.md.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from cluster.contracts.search import EngineAddress, QueryVector, Retriever, TextEncoder
from cluster.search.query_models import VisionEncoder
from cluster.search.service import LIST_DEPTH
from cluster.store.index.model_registry import IndexedModel, SearchModels
from cluster.store.postgres.connections import open_pool
from tests.benchmarks import reembedding
from tests.benchmarks.machine import machine
from tests.benchmarks.made_scenes import MOST, Scenery
from tests.benchmarks.opensearch_engine import OpenSearchEngine
from tests.benchmarks.postgres_server import postgres_server
from tests.benchmarks.search_engines import PostgresEngine, SearchEngine
from tests.benchmarks.search_latency import Parties, SearchClient, measure_common_words, measure_latency
from tests.benchmarks.search_recall import OWNERS, Recall, exactly_nearest, measure_recall
from tests.benchmarks.search_report import Found, section
from tests.benchmarks.search_server import bundled_models, search_server
from tests.support.own_server import running
from tests.support.real_opensearch import RealOpenSearch

KEPT = Path(__file__).with_name("search.md")
SIZES, SIZE_QUICK = (100_000, 1_000_000), 5_000
QUERIES, QUERIES_QUICK = 500, 60
NEAREST_ASKED, NEAREST_ASKED_QUICK = 300, 50
ROUNDS, ROUNDS_QUICK = 5, 1
INDEXED = 20_000
"""Scenes that are indexed in each round."""
HEAP = "-Xms4g -Xmx4g"
"""OpenSearch's: for a million scenes, whose graphs of neighbours are merged there."""
_HEAD = "# Finding scenes"

Models = tuple[VisionEncoder, TextEncoder]
Say = Callable[[str], None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="make bench-search", description=__doc__)
    parser.add_argument("--scenes", type=int, nargs="+", metavar="N", help="how many (default: 100,000)")
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES), help="default: all")
    parser.add_argument("--quick", action="store_true", help="few scenes, few queries; search.md stays as it is")
    options = parser.parse_args(arguments)
    models = bundled_models()
    for scenes in options.scenes or [SIZE_QUICK if options.quick else SIZES[0]]:
        for name in options.engines:
            found = _measure(name, scenes, options.quick, models)
            title, report = section(found, machine(["pgvector", "opensearch-py"]))
            print(report, flush=True)
            if scenes in SIZES and not options.quick:
                _keep(title, report)
    if not options.scenes:
        title, report = "## Filling", _filling(options.quick, models)
        print(report, flush=True)
        if not options.quick:
            _keep(title, report)


def _filling(quick: bool, models: Models) -> str:
    """Measurements of filling indexes: documents for OpenSearch, and vectors of other models."""

    def say(text: str) -> None:
        print(f"filling: {text}", file=sys.stderr, flush=True)

    rounds = ROUNDS_QUICK if quick else ROUNDS
    with ENGINES["opensearch"](models) as (_, _, engine):
        assert isinstance(engine, OpenSearchEngine)
        engine.fill(Scenery(SIZE_QUICK if quick else INDEXED), say)
        lines = [engine.compare_bulk(rounds, say)]
    lines += reembedding.compare(rounds, quick, say)
    rows = [
        f"| {line.title} | {line.against} | **{line.ratio:.2f}** ({min(line.ratios):.2f} to {max(line.ratios):.2f}; "
        f"{len(line.ratios)}) | {line.reach:g} | {line.wrong or ('reached' if line.is_reached else 'not reached')} "
        f"| {line.gate} |"
        for line in lines
    ]
    head = ["| what | against | ratio | reach | | outputs |", "|---|---|---:|---:|---|---|"]
    details = [f"- {sentence}" for line in lines for sentence in (*line.details, line.limit) if sentence]
    about = (
        f"{machine(['opensearch-py'])}. Made by `make bench-search`. A ratio is of wall time, round by round in turn."
    )
    return "\n".join(["## Filling", "", about, "", *head, *rows, "", *details, ""])


def _measure(name: str, scenes: int, quick: bool, models: Models) -> Found:
    def say(text: str) -> None:
        print(f"{name}, {scenes:,} scenes: {text}", file=sys.stderr, flush=True)

    vision, text = models
    scenery = Scenery(scenes)
    queries = scenery.queries(QUERIES_QUICK if quick else QUERIES)
    with ENGINES[name](models) as (url, address, engine):
        filled = engine.fill(scenery, say)
        recalls = _recalls(engine, scenery, models, NEAREST_ASKED_QUICK if quick else NEAREST_ASKED, say)
        with search_server(url, address) as port, closing(SearchClient(port, MOST)) as client:
            parties = Parties(engine, client, vision, text, scenery.spaces)
            latencies = measure_latency(parties, queries, say)
            common = measure_common_words(parties, scenery)
    return Found(engine.name, scenes, filled, recalls, latencies, common)


Opened = tuple[str, EngineAddress | None, SearchEngine]
"""The URL of a Postgres of our own, where the engine beside it is, and the engine that finds."""


@contextmanager
def _postgres(models: Models) -> Iterator[Opened]:
    vision, text = models
    keys = {Retriever.MEANING: text.key, Retriever.PICTURE: vision.key}
    with (
        postgres_server() as server,
        open_pool(server.url, max_size=3, name="bench") as pool,
        closing(PostgresEngine(server, pool, keys)) as engine,
    ):
        yield server.url, None, engine


@contextmanager
def _opensearch(models: Models) -> Iterator[Opened]:
    vision, text = models
    keys = {Retriever.MEANING: text.key, Retriever.PICTURE: vision.key}
    with (
        running(lambda folder: RealOpenSearch(folder / "opensearch", java_options=HEAP)) as server,
        _postgres(models) as (url, _, postgres),
        open_pool(url, max_size=8, name="bench") as pool,
    ):
        SearchModels(pool).adopt(Retriever.PICTURE, IndexedModel(vision.key, "bundled", None, vision.dimensions))
        SearchModels(pool).adopt(Retriever.MEANING, IndexedModel(text.key, "bundled", None, text.dimensions))
        assert isinstance(postgres, PostgresEngine)
        with closing(OpenSearchEngine(postgres, pool, url, server.url, keys)) as engine:
            yield url, engine.address, engine


ENGINES = {"postgres": _postgres, "opensearch": _opensearch}


def _recalls(engine: SearchEngine, scenery: Scenery, models: Models, queries: int, say: Say) -> list[Recall]:
    vision, text = models
    keys = {Retriever.MEANING: text.key, Retriever.PICTURE: vision.key}
    asked = [f"nearest to {number}" for number in range(queries)]
    rows = {by: np.stack([space.asked_by(one) for one in asked]) for by, space in scenery.spaces.items()}
    say("all vectors are compared with what is asked")
    exact = exactly_nearest(scenery, rows, list(OWNERS))
    vectors = {by: [QueryVector(keys[by], row) for row in matrix] for by, matrix in rows.items()}
    return measure_recall(engine, exact, vectors, LIST_DEPTH, say)


def _keep(title: str, report: str) -> None:
    """In the place of the section of the same title, or behind the others."""
    before = KEPT.read_text() if KEPT.exists() else _HEAD
    sections = {one.partition("\n")[0]: one.strip() for one in re.split("^(?=## )", before, flags=re.MULTILINE)}
    sections[title] = report.strip()
    KEPT.write_text("\n\n".join(sections.values()) + "\n")
    print(f"kept in {KEPT.name}", file=sys.stderr)


if __name__ == "__main__":
    main()
