"""Writes a video's transcript and scenes in one transaction, fenced by its lease.

The pictures themselves are stored below ``scenes_url``; here are only their addresses. Searching is
``search.postgres_index``'.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pgvector import Vector
from psycopg import Connection, sql
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from cluster.contracts.errors import DatabaseUnavailable, MalformedResult, ModelChanged
from cluster.contracts.media import MediaWarning
from cluster.contracts.results import Transcript, WrittenScene
from cluster.contracts.search import Retriever
from cluster.contracts.stages import Stage
from cluster.store.index.model_registry import active_while_written
from cluster.store.index.outbox import enqueue_index_update
from cluster.store.index.vector_tables import VectorTable, find_tables, flaw_of, make_table
from cluster.store.index.vocabulary import add_words
from cluster.store.postgres.connections import Pool
from cluster.store.queue.stage_results import keep

TEXT_CONFIGURATIONS = {
    "ar": "arabic", "ca": "catalan", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "es": "spanish", "eu": "basque", "fi": "finnish", "fr": "french", "ga": "irish", "hi": "hindi",
    "hu": "hungarian", "hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian",
    "ne": "nepali", "nl": "dutch", "no": "norwegian", "pt": "portuguese", "ro": "romanian", "ru": "russian",
    "sr": "serbian", "sv": "swedish", "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
"""PostgreSQL's text search configuration of each language (ISO 639-1) that it can stem; the others are not stemmed."""

_INSERT_SCENE = """
INSERT INTO video_scenes (id, video_id, index, start_s, end_s, transcript_segment, visual_summary, combined_text,
                          thumbnail_url, key_frame_s, key_frame_url, tags, speech_model, text_index)
VALUES (%(id)s, %(video_id)s, %(index)s, %(start_s)s, %(end_s)s, %(transcript_segment)s, %(visual_summary)s,
        %(combined_text)s, %(thumbnail_url)s, %(key_frame_s)s, %(key_frame_url)s, %(tags)s, %(speech_model)s,
        heimdex_text_index(%(combined_text)s, %(configuration)s::regconfig))
"""


class _NoTable(DatabaseUnavailable):
    """A model has no table of vectors yet, or it was dropped."""


class SceneStore:
    """Writes scenes. A repeated write of the same video replaces what was there."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def replace(
        self,
        video_id: UUID,
        lease_token: int,
        transcript: Transcript,
        scenes: Sequence[WrittenScene],
        duration_s: float,
    ) -> None:
        """Replace the video's scenes and transcript, and set its duration to what was read.

        Raises:
            LeaseLost: the lease token no longer matches; nothing was written.
            ModelChanged: the scenes were embedded by models that are active no longer; nothing was written.
            MalformedResult: a vector cannot be stored; nothing was written.
        """
        made = _made_of(scenes)
        write = partial(self._write, video_id, lease_token, transcript, scenes, duration_s, made)
        try:
            write()
        except _NoTable:  # the first vectors of a model
            self._make_tables(made)
            write()

    def _write(
        self,
        video_id: UUID,
        lease_token: int,
        transcript: Transcript,
        scenes: Sequence[WrittenScene],
        duration_s: float,
        made: "_Made",
    ) -> None:
        with self._pool.connection() as connection:
            # First the fence: it keeps the lease from being taken back meanwhile and lets heartbeats pass.
            keep(connection, video_id, lease_token, Stage.INDEXING)
            _refuse_other_models(active_while_written(connection), scenes)
            tables = _tables(connection, made)
            with connection.pipeline():  # nothing below waits for the answer to what is above it
                connection.execute("DELETE FROM video_scenes WHERE video_id = %s", (video_id,))
                connection.execute(
                    "UPDATE videos SET duration_s = %s WHERE id = %s AND duration_s IS DISTINCT FROM %s",
                    (duration_s, video_id, duration_s),
                )
                _write_transcript(connection, video_id, transcript)
                _write_scenes(connection, video_id, transcript, scenes)
                for model, vectors in made.items():
                    _write_vectors(connection, tables[model], vectors)
                enqueue_index_update(connection, video_id, len(scenes))
                # Last, since a transaction that adds the same words waits for the end of this.
                add_words(connection, video_id, [scene.description.combined_text for scene in scenes])

    def warn(self, video_id: UUID, lease_token: int, warnings: Sequence[MediaWarning]) -> None:
        """Add to the warnings of a video that the lease holds; those that it has already are not repeated."""
        with self._pool.connection() as connection:
            connection.execute(
                """
                UPDATE video_processing AS p
                SET warnings = p.warnings || (SELECT coalesce(jsonb_agg(added), '[]')
                                              FROM jsonb_array_elements(%(warnings)s) AS added
                                              WHERE NOT p.warnings @> jsonb_build_array(added))
                FROM video_leases AS l
                WHERE p.video_id = %(video)s AND l.video_id = p.video_id AND l.lease_token = %(token)s
                """,
                {
                    "video": video_id,
                    "token": lease_token,
                    "warnings": Jsonb([asdict(warning) for warning in warnings]),
                },
            )

    def _make_tables(self, made: "_Made") -> None:
        """For models that are not in use yet, in a transaction of its own: making a table waits for other writers."""
        with self._pool.connection() as connection:
            for (by, key), vectors in made.items():
                if not find_tables(connection, {by: key}):
                    make_table(connection, by, key, vectors[0][1].size)


_Vectors = list[tuple[WrittenScene, NDArray[np.float32]]]
_Made = dict[tuple[Retriever, str], _Vectors]
"""Vectors that each model made of which scene."""


def _made_of(scenes: Sequence[WrittenScene]) -> _Made:
    made: _Made = defaultdict(list)
    for scene in scenes:
        described = scene.description
        made[Retriever.PICTURE, described.vision_model].append((scene, described.embedding))
        if described.meaning is not None:
            made[Retriever.MEANING, described.text_model].append((scene, described.meaning))
    return made


def _refuse_other_models(active: Mapping[Retriever, str], scenes: Sequence[WrittenScene]) -> None:
    for scene in scenes:
        described = scene.description
        for by, model in ((Retriever.PICTURE, described.vision_model), (Retriever.MEANING, described.text_model)):
            if active.get(by, model) != model:
                raise ModelChanged(f"{active[by]} has become the {by} model, the scenes were embedded by {model}")


def _write_transcript(connection: Connection[object], video_id: UUID, transcript: Transcript) -> None:
    connection.execute(
        """
        INSERT INTO video_transcripts (video_id, language, model, word_count, segments)
        VALUES (%s, %s, %s, %s, %s)
        ON CONFLICT (video_id) DO UPDATE
        SET language = excluded.language, model = excluded.model, word_count = excluded.word_count,
            segments = excluded.segments, created_at = clock_timestamp()
        """,
        (
            video_id,
            transcript.language,
            transcript.model,
            len(transcript.words),
            Jsonb([asdict(segment) for segment in transcript.segments]),
        ),
    )


def _write_scenes(
    connection: Connection[DictRow], video_id: UUID, transcript: Transcript, scenes: Sequence[WrittenScene]
) -> None:
    configuration = TEXT_CONFIGURATIONS.get(transcript.language or "", "simple")
    with connection.cursor() as cursor:
        cursor.executemany(
            _INSERT_SCENE,
            [
                {
                    "id": scene.id,
                    "video_id": video_id,
                    "index": scene.description.index,
                    "start_s": scene.start_s,
                    "end_s": scene.end_s,
                    "transcript_segment": scene.description.transcript_segment,
                    "visual_summary": scene.description.visual_summary,
                    "combined_text": scene.description.combined_text,
                    "thumbnail_url": scene.thumbnail_url,
                    "key_frame_s": scene.key_frame_s,
                    "key_frame_url": scene.key_frame_url,
                    "tags": list(scene.description.tags),
                    "speech_model": transcript.model,
                    "configuration": configuration,
                }
                for scene in scenes
            ],
        )


def _tables(connection: Connection[DictRow], made: _Made) -> dict[tuple[Retriever, str], VectorTable]:
    """The table of each model, which its vectors fit into. Raises _NoTable, MalformedResult."""
    keys = dict(made.keys())
    if len(keys) < len(made):
        raise MalformedResult("several models made vectors of one kind of the video's scenes")
    tables = {(by, table.model): table for by, table in find_tables(connection, keys).items()}
    for (by, key), vectors in made.items():
        if (by, key) not in tables:
            raise _NoTable(f"the table with the vectors of the {by} model {key} is missing")
        for scene, embedding in vectors:
            flaw = flaw_of(embedding, tables[by, key].dimensions)
            if flaw is not None:
                raise MalformedResult(f"the {by} model {key} made {flaw} of scene {scene.description.index}")
    return tables


def _write_vectors(connection: Connection[DictRow], table: VectorTable, vectors: _Vectors) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            table.insert(sql.Placeholder(), sql.Placeholder(), sql.SQL("")),
            [(scene.id, Vector(embedding)) for scene, embedding in vectors],
        )
