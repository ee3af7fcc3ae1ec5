"""``heimdex search``: asks the cluster that is up, or searches with models of its own, and shows what was found."""

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from rich.table import Table
from rich.text import Text

from cluster.cli.terminal import cell, out, out_json, result_console, say
from cluster.contracts.durations import time_code
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.search import Retriever, Scope, check_terms, parse_words
from cluster.runtime import launch
from cluster.security.visible import visible
from cluster.settings import Settings, load_settings
from cluster.store.postgres.connections import Pool, open_pool

if TYPE_CHECKING:  # the search brings numpy along: no other command should wait for its import
    from cluster.search.service import SceneHit, SearchRequest, SearchResults, SearchService

BOTH_MODELS = frozenset({Retriever.MEANING, Retriever.PICTURE})


def search(
    text: Annotated[
        str, typer.Argument(help='Words: "quoted", begin*, or, -without; or what is to be seen.', show_default=False)
    ] = "",
    image: Annotated[
        Path | None, typer.Option(help="A JPEG, PNG or WebP picture: scenes that look like it.", dir_okay=False)
    ] = None,
    by: Annotated[str, typer.Option(help="Which lists count, separated by commas.")] = ",".join(Retriever),
    owner: Annotated[UUID | None, typer.Option(help="Whose scenes; default: the owner of this data directory.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Only videos submitted since then (UTC)."),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="TAG", help="Only scenes with a tag that begins so; several: with all of them."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many scenes.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array on standard output.")] = False,
    show: Annotated[bool, typer.Option("--open", help="Show the scenes' pictures in the browser.")] = False,
) -> None:
    """Find scenes by what was said, by what that means, and by what is to be seen.

    The cluster that is up is asked. Where none is, the models that the question needs are loaded first, which takes
    seconds; `--by words` needs none.
    """
    from cluster.cli.running_search import ask_cluster  # here for a quick start of the other commands
    from cluster.search.service import MAX_QUERY, SearchRequest

    if len(text) > MAX_QUERY:
        raise typer.BadParameter(f"a query has at most {MAX_QUERY} characters")
    if not text.strip() and image is None:
        raise typer.BadParameter("give words, or --image, or both")
    settings = load_settings()
    request = SearchRequest(
        scope=Scope(owner or settings.resolved_owner_id, since and since.replace(tzinfo=UTC), tuple(tag or ())),
        text=text,
        by=_lists(by),
        limit=limit,
    )
    data = None if image is None else _read(image)
    results = ask_cluster(settings, request, data)
    if results is None:
        picture = None if data is None else _decoded(image, data)
        results = _search_alone(settings, replace(request, picture=picture))
    if as_json:
        out_json(hits_as_json(results))
    else:
        show_hits(results)
    if show:
        from cluster.cli.contact_sheet import open_contact_sheet
        from cluster.files.scene_pictures import ScenePictures

        page = open_contact_sheet(results, ScenePictures(settings.resolved_scenes_url))
        say(f"contact sheet: {page}")


def _lists(by: str) -> frozenset[Retriever]:
    try:
        return frozenset(Retriever(name.strip()) for name in by.split(","))
    except ValueError:
        raise typer.BadParameter(f"--by takes {', '.join(Retriever)}, separated by commas") from None


def _search_alone(settings: Settings, request: "SearchRequest") -> "SearchResults":
    """Search in this process, by the models that the request needs."""
    from cluster.search.service import spaces_of

    check_terms(parse_words(request.text))  # before models are loaded for a question that is refused
    with launch.open_database(settings) as url, open_pool(url, max_size=2, name="heimdex-search") as pool:
        return open_search(settings, pool, spaces_of(request, settings.search_weights)).search(request)


def _read(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"--image {image}: {error.strerror}") from None


def _decoded(image: Path | None, data: bytes) -> Any:
    from cluster.search.query_picture import read_picture

    try:
        return read_picture(data)
    except ValueError as error:
        raise ConfigurationError(f"--image {image} cannot be read: {error}") from None


def open_search(settings: Settings, pool: Pool, spaces: Collection[Retriever] = BOTH_MODELS) -> "SearchService":
    """The search over ``pool``, with the configured models of these spaces, which take a moment to load."""
    from cluster.search.active_models import ModelName
    from cluster.search.query_models import ModelLoaders, QueryModels
    from cluster.search.service import SearchService
    from cluster.store.search.engines import index_opener

    device = None if Retriever.PICTURE in spaces else "cpu"  # any: no vision model is loaded, so torch is not asked
    vision = ModelName(*settings.clip_on(device), chosen=settings.clip_is_chosen)
    models = QueryModels(pool, ModelLoaders.on_cpu(vision, ModelName(settings.text_model)), spaces=spaces)
    return SearchService(index_opener(pool, settings.search_engine), models, pool, settings.search_weights)


def hits_as_json(results: "SearchResults") -> list[dict[str, Any]]:
    """What ``search --json`` prints: a scene per object, best first."""
    return [
        {
            "scene_id": hit.scene.scene_id,
            "video_id": hit.scene.video_id,
            "filename": hit.scene.filename,
            "uri": hit.scene.uri,
            "scene_index": hit.scene.index,
            "start_s": hit.scene.start_s,
            "end_s": hit.scene.end_s,
            "transcript_segment": hit.scene.transcript_segment,
            "marks": hit.scene.marks,
            "tags": hit.scene.tags,
            "thumbnail_url": hit.scene.thumbnail_url,
            **{f"{by}_rank": hit.match.ranks.get(by) for by in Retriever},
            "score": hit.match.score,
            "stands_out": hit.match.stands_out,
        }
        for hit in results.hits
    ]


def show_hits(results: "SearchResults") -> None:
    """The scenes for people: where, what was said with what fits marked, what was seen, and which list found it."""
    console = result_console()
    if results.corrected is not None:
        console.print(cell(f"Nothing says {results.query!r}; searched for {results.corrected!r} instead."))
    if not results.hits:
        console.print("Nothing was found.")
        return
    asked = f'"{results.query}"' if results.query else "the picture"
    if not results.stands_out:
        console.print(cell(f"No clear match for {asked}: these scenes are only the nearest."))
    table = Table(title=cell(f"{asked} ({results.latency_ms} ms)"), title_justify="left")
    for column in ("", "video", "at", "said", "seen", "found by"):
        table.add_column(column, overflow="fold")
    for number, hit in enumerate(results.hits, 1):
        table.add_row(
            str(number),
            cell(hit.scene.name),
            f"{time_code(hit.scene.start_s)}-{time_code(hit.scene.end_s)}",
            _marked(hit),
            cell(", ".join(hit.scene.tags)),
            hit.ranks_text,
        )
    console.print(table)
    for number, hit in enumerate(results.hits, 1):  # in no column: a path that is wrapped cannot be copied
        if hit.scene.thumbnail_url is not None:
            out(f"{number}  {hit.scene.thumbnail_url.removeprefix('file://')}")


def _marked(hit: "SceneHit") -> Text:
    text, said, last = hit.scene.transcript_segment or "", Text(), 0
    for start, end in hit.scene.marks:
        said.append(visible(text[last:start])).append(visible(text[start:end]), "bold underline")
        last = end
    return said.append(visible(text[last:]))
