"""``heimdex search``: opens the search with its text encoder, and shows what was found."""

from typing import Any

from rich.table import Table
from rich.text import Text

from cluster.models.vision import load_vision_model
from cluster.report import result_console
from cluster.search import SearchResults, SearchService
from cluster.settings import Settings
from cluster.store.database import Pool
from cluster.store.search_index import PostgresSearchIndex


def open_search(settings: Settings, pool: Pool) -> SearchService:
    """The search over ``pool``, with the text side of the configured vision model."""
    encoder = load_vision_model(settings.clip_model, settings.resolved_clip_pretrained, "cpu")
    return SearchService(PostgresSearchIndex(pool), encoder, pool)


def hits_as_json(results: SearchResults) -> list[dict[str, Any]]:
    """What ``search --json`` prints: a scene per object, best first."""
    return [
        {
            "video_id": hit.scene.video_id,
            "filename": hit.scene.filename,
            "uri": hit.scene.uri,
            "scene_index": hit.scene.index,
            "start_s": hit.scene.start_s,
            "end_s": hit.scene.end_s,
            "transcript_segment": hit.scene.transcript_segment,
            "tags": hit.scene.tags,
            "thumbnail_url": hit.scene.thumbnail_url,
            "words_rank": hit.match.words_rank,
            "picture_rank": hit.match.picture_rank,
            "score": hit.match.score,
        }
        for hit in results.hits
    ]


def show_hits(results: SearchResults) -> None:
    """The scenes for people: where, what was said, what was seen, and which list found it."""
    console = result_console()
    if not results.hits:
        console.print("Nothing was found.")
        return
    table = Table(title=Text(f'"{results.query}" ({results.latency_ms} ms)'), title_justify="left")
    for column in ("", "video", "at", "said", "seen", "found by"):
        table.add_column(column, overflow="fold")
    for number, hit in enumerate(results.hits, 1):
        found = [("words", hit.match.words_rank), ("picture", hit.match.picture_rank)]
        table.add_row(
            str(number),
            Text(hit.scene.filename),
            f"{time_code(hit.scene.start_s)}-{time_code(hit.scene.end_s)}",
            Text(hit.scene.transcript_segment or ""),
            Text(", ".join(hit.scene.tags or ())),
            ", ".join(f"{name} {rank}" for name, rank in found if rank is not None),
        )
    console.print(table)


def time_code(seconds: float) -> str:
    """Seconds as players show them, to the tenth: 1:02:03.4, or 2:03.4 within the first hour."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
