"""The indexes in OpenSearch: made, rebuilt beside the one that is searched, switched by alias, removed.

Postgres lists them (``search_indexes``), so that every process that changes something knows them all. An alias belongs
to a pair of models, whose vectors the index behind it holds: a search with other models asks another alias.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cluster.contracts.counts import counted
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.search import EngineAddress, ModelKeys
from cluster.store.index.outbox import SearchChanges, page_of_videos
from cluster.store.index.vector_tables import find_tables
from cluster.store.opensearch.client import engine_errors
from cluster.store.opensearch.documents import Document, index_body, read_documents
from cluster.store.opensearch.sync import FollowedIndex, send
from cluster.store.postgres.connections import Pool, advisory_lock

if TYPE_CHECKING:  # the client takes a fifth of a second to import, also for commands that ask no OpenSearch
    from opensearchpy import OpenSearch

_ADVISORY_LOCK = 0x696E6465786573  # "indexes"; one per database
SCENES_PER_PAGE = 1000
SENDERS = 2
"""Pages that are sent at once, while the next one is read."""
GRACE_S = 3.0
"""Time for which an index stays after the alias left it: longer than a search takes."""
Progress = Callable[[int, int], None]
"""Called with the number of videos copied and the number of all."""
SAY_EVERY_S = 5.0


def throttled_progress(say: Callable[[str], None]) -> Progress:
    """Puts progress into words, the last one and others every few seconds."""
    said_s = time.monotonic()

    def tell(copied: int, total: int) -> None:
        nonlocal said_s
        if copied == total or time.monotonic() - said_s >= SAY_EVERY_S:
            said_s = time.monotonic()
            say(f"building the search index: {copied} of {counted(total, 'video')}")

    return tell


def alias_of(prefix: str, models: ModelKeys) -> str:
    """The alias behind which the scenes with these models' vectors are."""
    digest = hashlib.sha256(f"{models.vision}|{models.text}".encode()).hexdigest()[:12]
    return f"{prefix}-{digest}"


class SearchIndexes:
    """The indexes of one cluster. ``url``: of the database, for the lock that lets one at a time change them."""

    def __init__(self, pool: Pool, url: str, client: "OpenSearch", address: EngineAddress) -> None:
        self._pool = pool
        self._url = url
        self._client = client
        self._address = address
        self._changes = SearchChanges(pool)

    def ensure(self, models: ModelKeys, progress: Progress = lambda *_: None) -> None:
        """Build the index that these models ask, unless it is there.

        Raises SearchUnavailable, ConfigurationError when another process is building.
        """
        alias = alias_of(self._address.prefix, models)
        with engine_errors():
            there = self._client.indices.exists_alias(name=alias)
        if not there or all(row["alias"] != alias or row["state"] != "live" for row in self.rows()):
            self.rebuild(models, progress)

    def rebuild(self, models: ModelKeys, progress: Progress = lambda *_: None) -> str:
        """Build a new index of all scenes beside the one that is searched, then switch; returns its name.

        Searches are answered throughout. What an earlier, interrupted try left is removed first. Raises as ``ensure``.
        """
        with self._alone():
            self._settle()
            alias = alias_of(self._address.prefix, models)
            self._check_alias_owned(alias)
            index = self.begin(alias, models)
            self.copy(index, progress)
            with engine_errors():
                self._client.indices.refresh(index=index.name)
            self._execute(
                "UPDATE search_indexes SET state = CASE WHEN name = %(name)s THEN 'live' ELSE 'retired' END "
                "WHERE alias = %(alias)s",
                {"name": index.name, "alias": alias},
            )
            self._settle()
        return index.name

    def drop_others(self, kept: ModelKeys) -> None:
        """Remove the indexes of all other models."""
        with self._alone():
            self._execute(
                "UPDATE search_indexes SET state = 'retired' WHERE alias <> %(alias)s",
                {"alias": alias_of(self._address.prefix, kept)},
            )
            self._settle()

    def rows(self) -> list[dict[str, Any]]:
        """Name, alias, models, state and progress of each, the oldest first."""
        with self._pool.connection() as connection:
            return connection.execute("SELECT * FROM search_indexes ORDER BY created_at").fetchall()

    def described(self) -> list[dict[str, Any]]:
        """For people: each index with its models, its state, and what OpenSearch says of its size."""
        with engine_errors():
            there = {
                row["index"]: row
                for row in self._client.cat.indices(index=f"{self._address.prefix}-*", format="json", bytes="b")
            }
        return [
            {
                "name": row["name"],
                "state": row["state"] if row["name"] in there else f"{row['state']}, but gone from OpenSearch",
                "models": f"{row['vision_model']}, {row['text_model']}",
                "documents": int(there[row["name"]]["docs.count"]) if row["name"] in there else 0,
                "megabytes": round(int(there[row["name"]]["store.size"]) / 1e6, 1) if row["name"] in there else 0,
            }
            for row in self.rows()
        ]

    def begin(self, alias: str, models: ModelKeys) -> FollowedIndex:
        """A new index, which from now on gets all that changes.

        Raises:
            ConfigurationError: one of the models has no vectors.
        """
        with self._pool.connection() as connection:
            tables = find_tables(connection, models.by_space)
        if len(tables) < len(models.by_space):
            raise ConfigurationError(f"there are no vectors of {models.vision} and {models.text}: `heimdex reembed`")
        dimensions = {by: table.dimensions for by, table in tables.items()}
        index = FollowedIndex(f"{alias}-{time.time_ns() // 1_000_000}", models)
        self._execute(  # first, so that no index is left without a record
            "INSERT INTO search_indexes (name, alias, vision_model, text_model, state) "
            "VALUES (%(name)s, %(alias)s, %(vision)s, %(text)s, 'building')",
            {"name": index.name, "alias": alias, "vision": models.vision, "text": models.text},
        )
        body = {**index_body(self._address.shards, dimensions), "aliases": {index.writer: {}}}
        with engine_errors():
            self._client.indices.create(index=index.name, body=body)
        return index

    def copy(self, index: FollowedIndex, progress: Progress) -> None:
        """All videos' documents, page by page, whatever changes meanwhile: the newer version of each stays."""
        total, copied = self._count(), 0
        with ThreadPoolExecutor(SENDERS) as senders:
            sent: deque[tuple[int, Future[dict[UUID, str]]]] = deque()
            for page in self._pages():
                sent.append((len(page), senders.submit(send, self._client, self._documents(index, page))))
                while len(sent) > SENDERS:
                    copied += self._note_copied(index, *sent.popleft())
                    progress(copied, max(copied, total))
            for videos, answer in sent:
                copied += self._note_copied(index, videos, answer)
                progress(copied, max(copied, total))

    def _pages(self) -> Iterator[list[UUID]]:
        last: UUID | None = None
        while page := page_of_videos(self._pool, last, SCENES_PER_PAGE):
            yield from self._changes.portions(page)
            last = page[-1]

    def _documents(self, index: FollowedIndex, page: list[UUID]) -> list[tuple[FollowedIndex, Document]]:
        with self._pool.connection() as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            of_videos = read_documents(connection, page, index.models)
            return [(index, document) for of_video in of_videos for document in of_video]

    def _note_copied(self, index: FollowedIndex, videos: int, answer: "Future[dict[UUID, str]]") -> int:
        refused = answer.result()
        if refused:
            self._changes.touch(list(refused))  # the follower finds out once more, and records why
        self._execute(
            "UPDATE search_indexes SET copied = copied + %(videos)s WHERE name = %(name)s",
            {"videos": videos, "name": index.name},
        )
        return videos

    def _count(self) -> int:
        with self._pool.connection() as connection:
            row = connection.execute("SELECT count(*) AS n FROM videos").fetchone()
        assert row is not None
        return int(row["n"])

    def _settle(self) -> None:
        """Make OpenSearch what Postgres says: aliases point to what is live, all else of ours goes.

        What is being built is left over from a try that was interrupted, since only one goes on at a time.
        """
        rows = self.rows()
        unwanted = sorted(row["name"] for row in rows if row["state"] != "live")
        with engine_errors():
            there = set(self._client.indices.get(index=f"{self._address.prefix}-*"))
            for row in rows:
                if row["state"] == "live" and row["name"] in there:
                    self._switch(row["alias"], row["name"])
            if unwanted:
                time.sleep(GRACE_S)  # searches that have begun in one of these end
            for name in there.intersection(unwanted):
                self._client.indices.delete(index=name)
        self._execute("DELETE FROM search_indexes WHERE name = ANY (%(names)s)", {"names": unwanted})

    def _switch(self, alias: str, name: str) -> None:
        """Have the alias point to this index alone, all at once."""
        exists = self._client.indices.exists_alias(name=alias)
        before = set(self._client.indices.get_alias(name=alias)) if exists else set()
        if before != {name}:
            gone = [{"remove": {"index": other, "alias": alias}} for other in sorted(before - {name})]
            self._client.indices.update_aliases(body={"actions": [*gone, {"add": {"index": name, "alias": alias}}]})

    def _check_alias_owned(self, alias: str) -> None:
        """Two clusters of the same models must not take one alias for theirs."""
        with engine_errors():
            exists = self._client.indices.exists_alias(name=alias)
            behind = set(self._client.indices.get_alias(name=alias)) if exists else set()
        strangers = behind - {row["name"] for row in self.rows()}
        if strangers:
            raise ConfigurationError(
                f"OpenSearch has the index {min(strangers)} of another cluster: set HEIMDEX_OPENSEARCH_PREFIX to "
                "something else, or delete that index if it is not needed"
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One at a time; a process that dies releases it at once."""
        with advisory_lock(self._url, _ADVISORY_LOCK, name="heimdex-index") as held:
            if not held:
                raise ConfigurationError("another process is building an index just now: wait until it is done")
            yield

    def _execute(self, statement: str, parameters: dict[str, Any]) -> None:
        with self._pool.connection() as connection:
            connection.execute(statement, parameters)
