"""``heimdex index``: what finds the scenes, whether it is true to them, and rebuilding it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from cluster.cli.terminal import error_console, out, out_json, result_console
from cluster.contracts.counts import counted
from cluster.contracts.errors import ConfigurationError
from cluster.runtime import launch
from cluster.settings import Settings, load_settings
from cluster.store.postgres.connections import Pool, open_pool

if TYPE_CHECKING:  # indexes bring numpy along: no other command should wait for its import
    from rich.progress import Progress

    from cluster.store.opensearch.verify import Verdict

app = typer.Typer(no_args_is_help=True, help="What finds the scenes: Postgres, or the OpenSearch beside it.")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show the index, its models, and how far it has followed Postgres."""
    settings = load_settings()
    with _opened(settings) as (pool, url):
        fields = _status(settings, pool, url)
    if as_json:
        out_json(fields)
        return
    table = Table(show_header=False)
    for name, value in fields.items():
        table.add_row(name.replace("_", " "), _shown(value))
    result_console().print(table)


@app.command()
def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Bring in line what differs, and nothing else.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array on standard output.")] = False,
) -> None:
    """Compare the index with the scenes in Postgres. Exit status 0: nothing differs."""
    settings = load_settings()
    with _opened(settings) as (pool, url):
        verdicts = _verify(settings, pool, url, repair)
    if as_json:
        out_json([_verdict_as_json(name, verdict) for name, verdict in verdicts])
    else:
        for name, verdict in verdicts:
            _show(name, verdict)
    if any(verdict.differences for _, verdict in verdicts):
        raise typer.Exit(1)


@app.command()
def rebuild() -> None:
    """Build the index again. Searches are answered meanwhile: by the old one until the new one is complete."""
    from cluster.store.index.model_registry import SearchModels  # here for a quick start of the other commands
    from cluster.store.opensearch.client import open_client
    from cluster.store.opensearch.rebuild import SearchIndexes
    from cluster.store.search.postgres_check import PostgresCheck

    settings = load_settings()
    with _opened(settings) as (pool, url):
        if settings.search_engine is None:
            PostgresCheck(pool, url).rebuild()
            out("Text indexes, vocabulary and vector indexes in Postgres are built again.")
            return
        engine = settings.search_engine
        indexes = SearchIndexes(pool, url, open_client(engine), engine)
        with _progress("videos") as (bar, task):
            name = indexes.rebuild(
                SearchModels(pool).keys(), lambda copied, total: bar.update(task, completed=copied, total=total)
            )
    out(f"Searches are answered by the new index {name}.")


@contextmanager
def _opened(settings: Settings) -> Iterator[tuple[Pool, str]]:
    with launch.open_database_as_owner(settings) as url, open_pool(url, max_size=8, name="heimdex-index") as pool:
        yield pool, url


@contextmanager
def _progress(what: str) -> "Iterator[tuple[Progress, Any]]":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=error_console(), transient=True) as bar:
        yield bar, bar.add_task(what, total=None)


def _status(settings: Settings, pool: Pool, url: str) -> dict[str, Any]:
    from cluster.store.index.model_registry import SearchModels
    from cluster.store.index.outbox import SearchChanges
    from cluster.store.index.vector_tables import described_tables
    from cluster.store.opensearch.client import open_client
    from cluster.store.opensearch.rebuild import SearchIndexes

    active = SearchModels(pool).active()
    fields: dict[str, Any] = {
        "engine": "Postgres" if settings.search_engine is None else f"OpenSearch at {settings.search_engine.url}",
        "models": {by.value: active[by].key for by in active},
        "vectors": described_tables(pool),
    }
    if settings.search_engine is None:
        return fields
    engine = settings.search_engine
    backlog = SearchChanges(pool).backlog()
    indexes = SearchIndexes(pool, url, open_client(engine), engine)
    return {
        **fields,
        "indexes": indexes.described(),
        "videos_to_follow": backlog.pending,
        "oldest_change": backlog.oldest,
        "videos_refused": backlog.refused,
    }


def _verify(settings: Settings, pool: Pool, url: str, repair: bool) -> "list[tuple[str, Verdict]]":
    """The verdict of each index that is searched; after a repair, the one that it led to."""
    from cluster.store.opensearch.client import open_client
    from cluster.store.opensearch.rebuild import SearchIndexes
    from cluster.store.search.postgres_check import PostgresCheck

    if settings.search_engine is None:
        with _progress("scenes") as (bar, task):
            check = PostgresCheck(pool, url)
            verdict = check.verify(lambda compared: bar.update(task, completed=compared))
            if repair and verdict.differences:
                check.repair()
                verdict = check.verify()
        return [("Postgres", verdict)]
    client = open_client(settings.search_engine)
    rows = [row for row in SearchIndexes(pool, url, client, settings.search_engine).rows() if row["state"] == "live"]
    if not rows:
        raise ConfigurationError("OpenSearch has no index of the scenes: run `heimdex index rebuild`")
    return [(row["name"], _verify_one(pool, client, row, repair)) for row in rows]


def _verify_one(pool: Pool, client: Any, row: dict[str, Any], repair: bool) -> "Verdict":
    from cluster.contracts.search import ModelKeys
    from cluster.store.opensearch.sync import FollowedIndex, IndexFollower
    from cluster.store.opensearch.verify import IndexCheck

    index = FollowedIndex(row["name"], ModelKeys(row["vision_model"], row["text_model"]))
    check = IndexCheck(pool, client, index)
    with _progress("scenes") as (bar, task):
        verdict = check.verify(lambda compared: bar.update(task, completed=compared))
        if repair and verdict.differences:
            check.repair(verdict, IndexFollower(pool, client))
            verdict = check.verify()
    return verdict


def _verdict_as_json(name: str, verdict: "Verdict") -> dict[str, Any]:
    return {
        "index": name,
        "compared": verdict.compared,
        "pending": verdict.pending,
        "differences": verdict.differences,
        **{kind.replace(" ", "_"): count for kind, count in verdict.by_kind().items()},
        "examples": verdict.examples,
    }


def _show(name: str, verdict: "Verdict") -> None:
    differences = counted(verdict.differences, "difference")
    counts = ", ".join(f"{count} {kind}" for kind, count in verdict.by_kind().items())
    out(f"{name}: {counted(verdict.compared, 'scene')} compared, {differences} ({counts})")
    for example in verdict.examples:
        out(f"  {example}")
    if verdict.pending:
        out(
            f"  {counted(verdict.pending, 'video is', 'videos are')} still to be followed: a cluster that is up does so"
        )


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_shown(part)}" for name, part in value.items())
    if isinstance(value, list):
        return "\n".join(_shown(part) for part in value)
    return "-" if value is None else str(value)
