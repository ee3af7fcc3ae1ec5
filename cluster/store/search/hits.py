"""Found scenes as users see them, and the record of every search."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from psycopg import Error, errors, sql
from psycopg.rows import class_row

from cluster.contracts.errors import DatabaseUnavailable
from cluster.contracts.events import Event
from cluster.contracts.search import WordsQuery
from cluster.contracts.uris import shown, video_name
from cluster.contracts.videos import MAX_URI
from cluster.security.event_log import EventLog
from cluster.store.index.scene_text import MAX_LETTERS, SCENE_TAGS
from cluster.store.postgres.bounded_texts import FILENAME, PLACE
from cluster.store.postgres.connections import Pool
from cluster.store.search.tsquery import TsQuery
from cluster.store.videos.scenes import TEXT_CONFIGURATIONS

logger = EventLog(__name__)

# No text holds these: they are not allowed in JSON or XML without being escaped, and do not occur in speech.
_BEGIN, _END = "\x02", "\x03"

_SCENES = sql.SQL(
    f"""
-- The words that fit are marked as the full text search knows them: stemmed in the video's language, or as typed.
SELECT s.id AS scene_id, s.video_id, {FILENAME} AS filename, {PLACE} AS uri, s.index, s.start_s, s.end_s,
       {SCENE_TAGS} AS tags, left(s.thumbnail_url, {MAX_URI}) AS thumbnail_url, {{said}} AS transcript_segment
FROM video_scenes AS s
JOIN videos AS v ON v.id = s.video_id
LEFT JOIN video_processing AS p ON p.video_id = s.video_id
LEFT JOIN video_transcripts AS t ON t.video_id = s.video_id
LEFT JOIN unnest(%(languages)s::text[], %(configurations)s::text[]) AS known (language, configuration)
    ON known.language = t.language
WHERE s.id = ANY (%(ids)s) AND v.owner_id = %(owner)s AND p.forgotten_at IS NULL AND s.index IS NOT NULL
"""
)

_SAID: LiteralString = f"left(s.transcript_segment, {MAX_LETTERS})"
_MARKED = sql.SQL(
    """ts_headline(coalesce(configuration, 'simple')::regconfig, {said},
                   ({typed}) || ({stemmed}), %(markers)s)"""
)


@dataclass(frozen=True)
class SceneRow:
    """What a person wants to see of a scene; ``uri`` is what may be shown.

    ``marks``: where in the segment, from letter to letter, words fit.
    """

    scene_id: UUID
    video_id: UUID
    filename: str | None
    uri: str
    index: int
    start_s: float
    end_s: float
    transcript_segment: str | None
    tags: list[str]
    thumbnail_url: str | None
    marks: tuple[tuple[int, int], ...] = ()

    @property
    def name(self) -> str:
        """What people call the video."""
        return video_name(self.filename, self.uri, self.video_id)


def read_scenes(pool: Pool, owner_id: UUID, scene_ids: Sequence[UUID], query: WordsQuery) -> dict[UUID, SceneRow]:
    """The owner's scenes of these ids, with what fits ``query`` marked.

    Left out is what is gone by now, and what is another owner's, whatever the engine that found the ids says; and what
    has no index in another system's table.
    """
    said: sql.Composable = sql.SQL(_SAID)
    asked = TsQuery(query)
    if query:
        said = _MARKED.format(
            said=sql.SQL(_SAID),
            typed=asked.within(sql.SQL("'simple'::regconfig")),
            stemmed=asked.within(sql.SQL("coalesce(configuration, 'simple')::regconfig")),
        )
    values = {
        "ids": list(scene_ids),
        "owner": owner_id,
        "languages": list(TEXT_CONFIGURATIONS),
        "configurations": list(TEXT_CONFIGURATIONS.values()),
        "markers": f"HighlightAll=true, StartSel={_BEGIN}, StopSel={_END}",
        **asked.parameters,
    }
    with pool.connection() as connection, connection.cursor(row_factory=class_row(SceneRow)) as cursor:
        cursor.execute(_SCENES.format(said=said), values)
        return {row.scene_id: _unmarked(row) for row in cursor}


def is_own_scene(pool: Pool, scene_id: UUID, owner_id: UUID) -> bool:
    """Whether the owner has this scene."""
    statement = (
        "SELECT FROM video_scenes AS s JOIN videos AS v ON v.id = s.video_id WHERE s.id = %s AND v.owner_id = %s"
    )
    with pool.connection() as connection:
        return connection.execute(statement, (scene_id, owner_id)).rowcount > 0


def _unmarked(row: SceneRow) -> SceneRow:
    """The row with its marks as places instead of letters."""
    text = ""
    marks: list[tuple[int, int]] = []
    for part in (row.transcript_segment or "").split(_BEGIN):
        marked, closed, after = part.partition(_END)
        if closed:
            marks.append((len(text), len(text) + len(marked)))
        text += marked + after
    said = text if row.transcript_segment is not None else None
    fields = {**vars(row), "uri": shown(row.uri), "transcript_segment": said}
    return SceneRow(**{**fields, "marks": tuple(marks)})


def record_search(pool: Pool, user_id: UUID, query: str, results_count: int, latency_ms: int) -> None:
    """Keep the record of a search that was answered; the search metrics read it. Never fails the search.

    The disk is not waited for: a Postgres that dies may lose the records of its last second. Of a user whom the
    database does not know, the record is kept without the user.
    """
    record = (query, results_count, latency_ms)
    try:
        try:
            _record(pool, user_id, *record)
        except errors.ForeignKeyViolation:
            _record(pool, None, *record)
    except (DatabaseUnavailable, Error) as error:
        logger.warning(Event.SEARCH_NOT_RECORDED, user_id=user_id, error=error)


def _record(pool: Pool, user_id: UUID | None, query: str, results_count: int, latency_ms: int) -> None:
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO search_queries (user_id, query_text, results_count, latency_ms) "
            "SELECT %s, %s, %s, %s FROM set_config('synchronous_commit', 'off', true)",
            (user_id, query, results_count, latency_ms),
        )
