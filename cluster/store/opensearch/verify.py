"""Compares what an index in OpenSearch holds with what Postgres says, and has what differs brought in line.

Everything but the numbers of the vectors is compared as it is; of those, what they were when they were sent.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg import sql

from cluster.contracts.search import Retriever
from cluster.store.index.outbox import MOST_SCENES, NUMBERED, SearchChanges, page_of_videos
from cluster.store.index.scene_text import SCENE_TAGS, SCENE_TEXT
from cluster.store.opensearch.client import engine_errors
from cluster.store.opensearch.documents import JOINED_VECTORS, MODEL_FIELDS, VECTORS, searched_fields, with_vectors
from cluster.store.opensearch.sync import FollowedIndex, IndexFollower
from cluster.store.postgres.connections import Pool

if TYPE_CHECKING:  # the client takes a fifth of a second to import, also for commands that ask no OpenSearch
    from opensearchpy import OpenSearch

SCENES_PER_PAGE = 2000
DOCUMENTS_PER_REQUEST = 5000
EXAMPLES = 5
Progress = Callable[[int], None]

_SCENES = sql.SQL(f"""
-- As their documents are made.
SELECT DISTINCT ON (s.video_id, s.index)
       s.video_id, s.index, v.owner_id, v.created_at, {SCENE_TAGS} AS tags,
       {SCENE_TEXT} AS text, t.language,
       CASE WHEN p.embedding IS NOT NULL THEN %(vision)s END AS picture_model,
       CASE WHEN m.embedding IS NOT NULL THEN %(text)s END AS meaning_model,
       {VECTORS} AS vectors
FROM video_scenes AS s
JOIN videos AS v ON v.id = s.video_id AND v.owner_id IS NOT NULL
LEFT JOIN video_transcripts AS t ON t.video_id = s.video_id
{JOINED_VECTORS}
WHERE s.video_id = ANY (%(videos)s) AND {NUMBERED}
ORDER BY s.video_id, s.index, s.id
""")

_PENDING = "SELECT video_id FROM search_changes WHERE video_id = ANY (%s) AND version <> indexed_version"

Place = tuple[UUID, int]
"""A scene by its video and its number."""


class Kind(StrEnum):
    """Kind of difference between a document and a scene."""

    MISSING = "missing"
    EXTRA = "extra"
    STALE_MODEL = "stale by model"
    STALE_CONTENT = "stale by content"


@dataclass
class Verdict:
    """What was compared and what differs: how often, in which videos, and the first few by name.

    ``pending``: videos that the index has still to follow, which were not compared. ``words``: how many of the
    differences are words of a vocabulary.
    """

    compared: int = 0
    pending: int = 0
    words: int = 0
    counts: Counter[Kind] = field(default_factory=Counter)
    videos: set[UUID] = field(default_factory=set)
    examples: list[str] = field(default_factory=list)

    def note(self, place: Place, kind: Kind) -> None:
        self.counts[kind] += 1
        self.videos.add(place[0])
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{kind}: scene {place[1]} of video {place[0]}")

    def note_words(self, owner_id: UUID, kind: Kind, words: set[str]) -> None:
        """Words of an owner's scenes that are not in the vocabulary, or the other way about."""
        self.counts[kind] += len(words)
        self.words += len(words)
        if words and len(self.examples) < EXAMPLES:
            self.examples.append(f"{kind}: {len(words)} words of owner {owner_id}, such as {min(words)}")

    def by_kind(self) -> dict[Kind, int]:
        """Number of differences of each kind."""
        return {kind: self.counts[kind] for kind in Kind}

    @property
    def differences(self) -> int:
        """Number of differences of all kinds."""
        return self.counts.total()


class IndexCheck:
    """Compares an index with Postgres, and repairs it."""

    def __init__(self, pool: Pool, client: "OpenSearch", index: FollowedIndex) -> None:
        self._pool = pool
        self._client = client
        self._index = index
        self._changes = SearchChanges(pool)

    def verify(self, progress: Progress = lambda _: None) -> Verdict:
        """Compare all scenes with all documents, page by page.

        What differs is looked at twice, since it may just have been changed. Raises SearchUnavailable.
        """
        self._refresh()
        verdict = Verdict()
        last: UUID | None = None
        while True:
            page = page_of_videos(self._pool, last, SCENES_PER_PAGE)
            until = page[-1] if page else None
            self._compare(page, _between(last, until), verdict)
            progress(verdict.compared)
            if until is None:
                break
            last = until
        return self._looked_at_again(verdict)

    def repair(self, verdict: Verdict, follower: IndexFollower) -> dict[UUID, str]:
        """Bring the videos that differ in line, and nothing else; returns which of them have a refused document."""
        videos = sorted(verdict.videos)
        refused: dict[UUID, str] = {}
        for start in range(0, len(videos), 100):
            some = videos[start : start + 100]
            self._delete_unnumbered(some)
            self._changes.touch_or_add(self._most_documents(some))
            refused |= follower.follow_all(some)
        self._refresh()
        return refused

    def _delete_unnumbered(self, videos: Sequence[UUID]) -> None:
        """Documents of scenes that have none, of an earlier edition: no late write can bring these back."""
        numbered = {"range": {"index": {"gte": 0, "lt": MOST_SCENES}}}
        ours = {"terms": {"video_id": list(map(str, videos))}}
        with engine_errors():
            self._client.delete_by_query(
                index=self._index.writer,
                body={"query": {"bool": {"filter": [ours, {"exists": {"field": "index"}}], "must_not": numbered}}},
                conflicts="proceed",
            )

    def _looked_at_again(self, first: Verdict) -> Verdict:
        if not first.videos:
            return first
        self._refresh()
        verdict = Verdict(compared=first.compared, pending=first.pending)
        videos = sorted(first.videos)
        for start in range(0, len(videos), 500):
            some = videos[start : start + 500]
            self._compare(some, {"terms": {"video_id": list(map(str, some))}}, verdict, again=True)
        return verdict

    def _compare(self, videos: Sequence[UUID], query: dict[str, Any], verdict: Verdict, again: bool = False) -> None:
        """Scenes of these videos with the documents that ``query`` finds."""
        with self._pool.connection() as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            models = self._index.models
            values = {"videos": list(videos), "vision": models.vision, "text": models.text}
            statement = with_vectors(connection, _SCENES, models)
            scenes = {(row["video_id"], row["index"]): row for row in connection.execute(statement, values)}
            pending = {row["video_id"] for row in connection.execute(_PENDING, (list(videos),))}
        documents = dict(self._documents(query))
        for place in sorted(scenes.keys() | documents.keys()):
            if place[0] in pending:
                continue
            kind = _difference(scenes.get(place), documents.get(place))
            if kind is not None:
                verdict.note(place, kind)
        if not again:
            verdict.compared += len(scenes)
            verdict.pending += len(pending)

    def _documents(self, query: dict[str, Any]) -> Iterator[tuple[Place, dict[str, Any]]]:
        """All documents but the emptied ones, without their vectors."""
        body: dict[str, Any] = {
            "size": DOCUMENTS_PER_REQUEST,
            "query": {"bool": {"filter": query, "must_not": {"exists": {"field": "gone_at"}}}},
            "sort": [{"video_id": "asc"}, {"index": "asc"}],
            "_source": {"excludes": [by.value for by in (Retriever.PICTURE, Retriever.MEANING)]},
            "track_total_hits": False,
        }
        while True:
            with engine_errors():
                hits = self._client.search(index=self._index.name, body=body)["hits"]["hits"]
            for hit in hits:
                source = hit["_source"]
                yield (UUID(source["video_id"]), source["index"]), source
            if len(hits) < DOCUMENTS_PER_REQUEST:
                return
            body["search_after"] = hits[-1]["sort"]

    def _most_documents(self, videos: Sequence[UUID]) -> dict[UUID, int]:
        """Of each of the videos, one more than the highest number among its documents."""
        found = dict.fromkeys(videos, 0)
        for (video_id, index), _ in self._documents({"terms": {"video_id": list(map(str, videos))}}):
            found[video_id] = max(found[video_id], index + 1)
        return found

    def _refresh(self) -> None:
        with engine_errors():
            self._client.indices.refresh(index=self._index.name)


def _between(last: UUID | None, until: UUID | None) -> dict[str, Any]:
    """The documents of a page, and of all videos between that Postgres does not know."""
    bounds = {**({"gt": str(last)} if last else {}), **({"lte": str(until)} if until else {})}
    return {"range": {"video_id": bounds}} if bounds else {"match_all": {}}


def _difference(scene: Mapping[str, Any] | None, document: Mapping[str, Any] | None) -> Kind | None:
    if document is None:
        return Kind.MISSING
    if scene is None:
        return Kind.EXTRA
    if any(document.get(name) != scene[name] for name in MODEL_FIELDS.values()):
        return Kind.STALE_MODEL
    wanted = searched_fields(dict(scene))
    found = {**{name: document.get(name) for name in wanted}, "created_at": _moment(document.get("created_at"))}
    same = (
        found == {**wanted, "created_at": _moment(wanted["created_at"])} and document.get("vectors") == scene["vectors"]
    )
    return None if same else Kind.STALE_CONTENT


def _moment(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
