"""Brings OpenSearch in line with Postgres, video by video, in every index that there is.

At least once, in any order, by any process: a document carries its video's version, and OpenSearch refuses an older
one than it has. So a write that comes late, or twice, changes nothing.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cluster.contracts.errors import DocumentRefused, SearchUnavailable
from cluster.contracts.events import Event
from cluster.contracts.search import ModelKeys
from cluster.security.event_log import EventLog
from cluster.store.index.outbox import SearchChanges
from cluster.store.opensearch.client import engine_errors
from cluster.store.opensearch.documents import Document, read_documents
from cluster.store.postgres.connections import Pool

if TYPE_CHECKING:  # the client takes a fifth of a second to import, also for commands that ask no OpenSearch
    from opensearchpy import OpenSearch

logger = EventLog(__name__)

VIDEOS_AT_ONCE = 20
MOST_BYTES = 8 * 1024**2
"""Most bytes that one request carries."""
LATEST_WRITE = "1d"
"""Longest delay of a write that still finds that its document is gone."""
_CONFLICT, _NOT_FOUND, _BAD_REQUEST = 409, 404, 400


@dataclass(frozen=True)
class FollowedIndex:
    """An index that is to be in line. It is written to by an alias, so that none is created again that was removed.

    ``live``: searches are answered by it, so it must be there.
    """

    name: str
    models: ModelKeys
    live: bool = False

    @property
    def writer(self) -> str:
        """The alias through which documents get into it."""
        return f"{self.name}-writer"


class IndexFollower:
    """Safe to share between threads."""

    def __init__(self, pool: Pool, client: "OpenSearch") -> None:
        self._pool = pool
        self._client = client
        self._changes = SearchChanges(pool)

    def follow(self, video_id: UUID) -> None:
        """Returns when all indexes have of the video what Postgres has.

        Raises:
            DocumentRefused: an index will not have one of its documents.
            SearchUnavailable: OpenSearch is away, or there is no index.
        """
        refused = self.follow_all([video_id])
        if video_id in refused:
            raise DocumentRefused(refused[video_id])

    def follow_all(self, video_ids: Iterable[UUID]) -> dict[UUID, str]:
        """As ``follow``, for several: returns why a document was refused, of the videos of which one was."""
        refused: dict[UUID, str] = {}
        for portion in self._changes.portions(video_ids):
            refused |= self._follow_portion(portion)
        return refused

    def _follow_portion(self, video_ids: Sequence[UUID]) -> dict[UUID, str]:
        left, refused = set(video_ids), dict[UUID, str]()
        while left:
            versions, reasons = self._sync_once(sorted(left))
            for video_id, reason in reasons.items():
                self._changes.note_refused(video_id, versions.pop(video_id), reason)
            refused |= reasons
            # Gone are those that are done, and those that are refused; what was changed meanwhile is left.
            left &= versions.keys() - self._changes.note_followed(versions)
        return refused

    def follow_due(self) -> None:
        """Bring all in line that no other process takes care of. Raises SearchUnavailable."""
        while video_ids := self._changes.due(VIDEOS_AT_ONCE):
            for video_id, reason in self.follow_all(video_ids).items():
                logger.warning(Event.INDEX_UPDATE_REFUSED, video_id=video_id, error=reason)

    def purge(self) -> None:
        """Remove emptied documents for good, once no write can be so late."""
        with engine_errors():
            for index in self._indexes():
                self._client.delete_by_query(
                    index=index.writer,
                    body={"query": {"range": {"gone_at": {"lt": f"now-{LATEST_WRITE}"}}}},
                    conflicts="proceed",
                    ignore_unavailable=True,
                )

    def _indexes(self) -> list[FollowedIndex]:
        with self._pool.connection() as connection:
            return _followed(connection)

    def _sync_once(self, video_ids: Sequence[UUID]) -> tuple[dict[UUID, int], dict[UUID, str]]:
        """Send what there is of the videos now; returns which versions that were, and what was refused."""
        documents: list[tuple[FollowedIndex, Document]] = []
        versions: dict[UUID, int] = {}
        with self._pool.connection() as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            rows = connection.execute(
                "SELECT video_id, version FROM search_changes WHERE video_id = ANY (%s)", (list(video_ids),)
            )
            versions = {row["video_id"]: row["version"] for row in rows}
            indexes = _followed(connection)
            for index in indexes:
                for of_video in read_documents(connection, video_ids, index.models):
                    documents += [(index, document) for document in of_video]
        if not indexes:
            raise SearchUnavailable("OpenSearch has no index of the scenes yet")
        return versions, send(self._client, documents)


def _followed(connection: Any) -> list[FollowedIndex]:
    rows = connection.execute("SELECT name, vision_model, text_model, state FROM search_indexes ORDER BY name")
    return [
        FollowedIndex(row["name"], ModelKeys(row["vision_model"], row["text_model"]), row["state"] == "live")
        for row in rows
    ]


def send(client: "OpenSearch", documents: Iterable[tuple[FollowedIndex, Document]]) -> dict[UUID, str]:
    """Write documents, unless newer ones are there. Returns why one was refused, of the videos of which one was.

    An index that was removed meanwhile gets nothing, unless it is live. Raises SearchUnavailable; what was written
    before stays.
    """
    refused: dict[UUID, str] = {}
    for part in _in_requests(documents):
        with engine_errors():
            answer = client.bulk(body="".join(_line(index, document) for index, document in part), require_alias=True)
        if not answer["errors"]:
            continue
        for (index, document), item in zip(part, answer["items"], strict=True):
            if index.live and item["index"]["status"] == _NOT_FOUND:
                raise SearchUnavailable(f"OpenSearch has lost the index {index.name}: run `heimdex index rebuild`")
            reason = _refusal(document, item["index"])
            if reason is not None:
                refused.setdefault(document.video_id, reason)
    return refused


def _in_requests(documents: Iterable[tuple[FollowedIndex, Document]]) -> Iterator[list[tuple[FollowedIndex, Document]]]:
    part: list[tuple[FollowedIndex, Document]] = []
    size = 0
    for index, document in documents:
        if part and size + len(document.body) > MOST_BYTES:
            yield part
            part, size = [], 0
        part.append((index, document))
        size += len(document.body)
    if part:
        yield part


def _line(index: FollowedIndex, document: Document) -> str:
    action = {"_index": index.writer, "_id": document.id, "version": document.version, "version_type": "external_gte"}
    return f"{json.dumps({'index': action})}\n{document.body}\n"


def _refusal(document: Document, item: Mapping[str, Any]) -> str | None:
    """Why the document was refused for good; None where it was not, or where newer is there already."""
    status = item["status"]
    if status < 300 or status in (_CONFLICT, _NOT_FOUND):
        return None
    reason = " ".join(str(item["error"].get("reason")).split())
    if status != _BAD_REQUEST:
        raise SearchUnavailable(f"OpenSearch takes no documents: {status} {reason}")
    return f"the search engine refuses scene {document.index}: {reason}"
