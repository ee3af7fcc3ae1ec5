"""What an index in OpenSearch holds: a document per scene, with its words, tags, picture and meaning, and its shape.

A document is made by Postgres of the rows that hold the truth, in one snapshot with the version that it carries. One
that is to go is not deleted, but emptied: it keeps its version, so that no late write can bring it back.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg import Connection, sql
from psycopg.rows import DictRow

from cluster.contracts.search import ModelKeys, Retriever
from cluster.store.index.scene_text import SCENE_TAGS, SCENE_TEXT
from cluster.store.index.vector_tables import find_tables, rows_of

TYPED = "text"
"""The words as they were typed. A field beside it has them stemmed in the scene's language."""
ANALYZERS = {
    "ar": "arabic", "bg": "bulgarian", "bn": "bengali", "ca": "catalan", "cs": "czech", "da": "danish",
    "de": "german", "el": "greek", "en": "english", "es": "spanish", "et": "estonian", "eu": "basque",
    "fa": "persian", "fi": "finnish", "fr": "french", "ga": "irish", "gl": "galician", "hi": "hindi",
    "hu": "hungarian", "hy": "armenian", "id": "indonesian", "it": "italian", "ja": "cjk", "ko": "cjk",
    "lt": "lithuanian", "lv": "latvian", "nl": "dutch", "no": "norwegian", "pt": "portuguese", "ro": "romanian",
    "ru": "russian", "sv": "swedish", "th": "thai", "tr": "turkish", "zh": "cjk",
}  # fmt: skip
"""OpenSearch's analyzer of each language (ISO 639-1) that it has one for."""
MODEL_FIELDS = {Retriever.PICTURE: "picture_model", Retriever.MEANING: "meaning_model"}

VECTORS = "concat_ws('|', md5(vector_send(p.embedding::vector)), md5(vector_send(m.embedding::vector)))"
"""SQL for a hash of vectors ``p`` and ``m`` of a scene: compares them without writing out their numbers."""

JOINED_VECTORS = """
LEFT JOIN {pictures} AS p ON p.scene_id = s.id
LEFT JOIN {meanings} AS m ON m.scene_id = s.id
"""
"""SQL for the vectors ``p`` and ``m`` of scene ``s``."""

_DOCUMENTS = sql.SQL(f"""
-- What can be found of some videos, and of which version that is; a row without a scene where nothing can be.
-- Another system's scenes may have any index, and several the same: one of these is found.
SELECT DISTINCT ON (c.video_id, s.index)
       c.video_id, c.version, c.most_scenes, s.index, s.id AS scene_id, v.owner_id, v.created_at,
       {SCENE_TAGS} AS tags, {SCENE_TEXT} AS text, t.language,
       p.embedding::text AS picture, m.embedding::text AS meaning,
       {VECTORS} AS vectors
FROM search_changes AS c
LEFT JOIN videos AS v ON v.id = c.video_id
LEFT JOIN video_scenes AS s
    ON s.video_id = c.video_id AND v.owner_id IS NOT NULL AND s.index BETWEEN 0 AND c.most_scenes - 1
LEFT JOIN video_transcripts AS t ON t.video_id = c.video_id
{JOINED_VECTORS}
WHERE c.video_id = ANY (%(videos)s)
ORDER BY c.video_id, s.index, s.id
""")


@dataclass(frozen=True)
class Document:
    """A document as it is sent: of which scene and version it is, and its JSON; of an emptied one that says little."""

    video_id: UUID
    index: int
    version: int
    body: str

    @property
    def id(self) -> str:
        """The same for each writing of the scene."""
        return document_id(self.video_id, self.index)


def document_id(video_id: UUID, index: int) -> str:
    """Id of the document of a video's scene."""
    return f"{video_id}.{index}"


def index_body(shards: int, dimensions: Mapping[Retriever, int]) -> dict[str, Any]:
    """Settings and mappings of an index with vectors of these lengths."""
    properties: dict[str, Any] = {
        **{name: {"type": "keyword"} for name in ("video_id", "scene_id", "owner_id", "tags", "language", "vectors")},
        **{name: {"type": "keyword"} for name in MODEL_FIELDS.values()},
        **{name: {"type": "date"} for name in ("created_at", "gone_at")},
        "index": {"type": "integer"},
        TYPED: {"type": "text", "analyzer": "standard"},
        **{stemmed(language): {"type": "text", "analyzer": analyzer} for language, analyzer in ANALYZERS.items()},
        **{by.value: _vector(length) for by, length in dimensions.items()},
    }
    return {
        "settings": {
            "index": {
                "knn": True,
                "number_of_shards": shards,
                "auto_expand_replicas": "0-1",
                "refresh_interval": "1s",  # explicit, so that an index without searches is refreshed too
            }
        },
        "mappings": {"dynamic": "strict", "properties": properties},
    }


def _vector(dimension: int) -> dict[str, Any]:
    method = {"name": "hnsw", "engine": "lucene", "space_type": "cosinesimil"}
    return {"type": "knn_vector", "dimension": dimension, "method": method}


def stemmed(language: str) -> str:
    """The field that has the words of a language stemmed."""
    return f"{TYPED}_{language}"


def read_documents(
    connection: Connection[DictRow], video_ids: Sequence[UUID], models: ModelKeys
) -> Iterator[list[Document]]:
    """The documents of each of the videos, also those that are to go; nothing of a video that never had any."""
    statement = with_vectors(connection, _DOCUMENTS, models)
    rows: list[dict[str, Any]] = []
    for row in connection.execute(statement, {"videos": list(video_ids)}):
        if rows and rows[0]["video_id"] != row["video_id"]:
            yield _documents(rows, models)
            rows = []
        rows.append(row)
    if rows:
        yield _documents(rows, models)


def with_vectors(connection: Connection[DictRow], statement: sql.SQL, models: ModelKeys) -> sql.Composed:
    """A statement with ``JOINED_VECTORS``, for the vectors of these models."""
    tables = find_tables(connection, models.by_space)
    return statement.format(pictures=rows_of(tables, Retriever.PICTURE), meanings=rows_of(tables, Retriever.MEANING))


def _documents(rows: Sequence[dict[str, Any]], models: ModelKeys) -> list[Document]:
    """Of the rows of one video."""
    first = rows[0]
    scenes = {row["index"]: row for row in rows if row["index"] is not None}
    emptied = json.dumps({"video_id": str(first["video_id"]), "gone_at": datetime.now(UTC).isoformat()})
    return [
        Document(
            first["video_id"],
            index,
            first["version"],
            _body(scenes[index], models) if index in scenes else emptied,
        )
        for index in range(first["most_scenes"])
    ]


def _body(row: dict[str, Any], models: ModelKeys) -> str:
    """The document of a scene. Vectors are JSON already as Postgres writes them: reading them would take the most."""
    document = {
        "video_id": str(row["video_id"]),
        "index": row["index"],
        **searched_fields(row),
        "scene_id": str(row["scene_id"]),
        "vectors": row["vectors"],
    }
    if row["language"] in ANALYZERS:
        document[stemmed(row["language"])] = row["text"]
    parts = [json.dumps(document)[:-1]]
    for by, model in models.by_space.items():
        if row[by.value] is not None:
            parts.append(f'"{MODEL_FIELDS[by]}": {json.dumps(model)}, "{by.value}": {row[by.value]}')
    return ", ".join(parts) + "}"


def searched_fields(row: dict[str, Any]) -> dict[str, Any]:
    """What a scene is found by but vectors, of a row with these columns."""
    return {
        "owner_id": str(row["owner_id"]),
        "created_at": row["created_at"].isoformat(),
        "tags": row["tags"],
        "language": row["language"],
        TYPED: row["text"],
    }
