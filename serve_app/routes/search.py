"""The search in a user's own scenes: by text, by a picture, and for what looks like a scene."""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Path, Query, Request, Response
from pydantic import AfterValidator, Field

from cluster.contracts.search import Retriever, Scope
from cluster.search.query_picture import read_picture
from cluster.search.service import MAX_DEPTH, MAX_QUERY, SearchRequest
from cluster.search.service import SceneHit as Hit
from serve_app.callers import SearchTurns
from serve_app.error_responses import BadRequest, NotFound
from serve_app.guards import CurrentUser
from serve_app.json_answers import write_whole
from serve_app.parts import ApiParts, Parts
from serve_app.schemas.search import FoundScenes, SceneHit, SimilarScenes
from serve_app.schemas.strict_values import Digits, Id, Time

MAX_TAGS = 16
PICTURES = ("jpeg", "png", "webp")
EVERY_LIST = ",".join(Retriever)
SEARCHABLE = r"^[^\x00]*[^\s\x00-\x20\x7f-\x9f\ufeff][^\x00]*$"
"""Something that is seen, and nothing that no database can hold."""
LISTS = f"^({'|'.join(Retriever)})(,({'|'.join(Retriever)}))*$"
TEXT = r"^[^\x00]*$"
UNKNOWN_CURSOR = "is not one that this search gave out"
CURSOR = "^[A-Za-z0-9_-]{24,30}$"
PICTURE_BODY = {
    "requestBody": {
        "required": True,
        "content": {f"image/{kind}": {"schema": {"type": "string", "format": "binary"}} for kind in PICTURES},
    }
}
"""The picture is read as it comes, whatever its Content-Type."""


def _searchable(query: str) -> str:
    if not re.fullmatch(SEARCHABLE, query):
        raise ValueError("must contain words")
    return query


def _lists(by: str) -> str:
    if not re.fullmatch(LISTS, by):
        raise ValueError(f"takes {', '.join(Retriever)}, separated by commas")
    return by


def _dated(since: datetime) -> datetime:
    return since if since.tzinfo else since.replace(tzinfo=UTC)


def _texts(tags: list[str] | None) -> list[str] | None:
    if any(not re.fullmatch(TEXT, tag) for tag in tags or ()):
        raise ValueError("must be text")
    return tags


def _of_a_page(cursor: str) -> str:
    if not re.fullmatch(CURSOR, cursor):
        raise ValueError(UNKNOWN_CURSOR)
    return cursor


def _pattern(text: str) -> dict[str, Any]:
    return {"pattern": text}


Words = Annotated[
    str,
    Query(
        max_length=MAX_QUERY,
        description='Words, 32 at most: all must fit; "quoted", begin* (3 letters at least), or, -without.',
        json_schema_extra=_pattern(SEARCHABLE),
    ),
    AfterValidator(_searchable),
]
WordsBeside = Annotated[
    Annotated[str, AfterValidator(_searchable), Field(json_schema_extra=_pattern(SEARCHABLE))] | None,
    Query(max_length=MAX_QUERY, description="Words and meaning, beside the picture; written as in `GET /v1/search`."),
]
Lists = Annotated[
    str,
    Query(
        max_length=100,
        description="Which lists count: words, meaning, picture, separated by commas.",
        json_schema_extra=_pattern(LISTS),
    ),
    AfterValidator(_lists),
]
Since = Annotated[
    Time | None, Query(description="Only scenes of videos submitted since then (ISO 8601; UTC if it says nothing).")
]
Tags = Annotated[
    list[Annotated[str, Field(json_schema_extra=_pattern(TEXT))]] | None,
    Query(
        max_length=MAX_TAGS,
        description="Only scenes with a tag that begins so, or has a word that does; several: with all of them.",
    ),
    AfterValidator(_texts),
]
Limit = Annotated[int, Query(ge=1, le=100, description="Scenes at most."), Digits]
Cursor = Annotated[
    Annotated[str, AfterValidator(_of_a_page), Field(json_schema_extra=_pattern(CURSOR))] | None,
    Query(description="The `next_cursor` of the page before."),
]


async def _sent_picture(request: Request) -> bytes:
    return await request.body()


Picture = Annotated[bytes, Depends(_sent_picture)]
"""The body, whatever its Content-Type says: a picture says itself what it is."""


@dataclass(frozen=True)
class PageOfScenes:
    """Which of a user's scenes count, and which page of what is found."""

    scope: Scope
    limit: int
    cursor: str | None


def _page_of_scenes(
    user_id: CurrentUser, since: Since = None, tag: Tags = None, limit: Limit = 10, cursor: Cursor = None
) -> PageOfScenes:
    return PageOfScenes(Scope(user_id, _dated(since) if since else None, tuple(tag or ())), limit, cursor)


Asked = Annotated[PageOfScenes, Depends(_page_of_scenes)]


def _turns_of(request: Request) -> SearchTurns:
    turns: SearchTurns = request.app.state.search_turns
    return turns


Turns = Annotated[SearchTurns, Depends(_turns_of)]


async def search_own_scenes(q: Words, asked: Asked, parts: Parts, turns: Turns, by: Lists = EVERY_LIST) -> Response:
    """The user's scenes that fit best: by what was said and seen, by what that means, and by the picture."""
    mark = _mark_of(q, by, asked.scope)
    lists = frozenset(map(Retriever, by.split(",")))
    request = SearchRequest(asked.scope, q, by=lists, limit=asked.limit, offset=_offset(asked.cursor, mark))
    return await turns.run(asked.scope.owner_id, partial(_page, parts, request, mark))


async def search_by_picture(
    picture: Picture, asked: Asked, parts: Parts, turns: Turns, q: WordsBeside = None, by: Lists = EVERY_LIST
) -> Response:
    """The user's scenes whose pictures are nearest to the one in the body; with `q`, also by words and meaning."""
    request = SearchRequest(asked.scope, q or "", by=frozenset(map(Retriever, by.split(","))), limit=asked.limit)
    return await turns.run(asked.scope.owner_id, partial(_page_by_picture, parts, request, asked.cursor, picture))


def _page_by_picture(parts: ApiParts, request: SearchRequest, cursor: str | None, picture: bytes) -> Response:
    by = ",".join(sorted(request.by))
    mark = _mark_of(hashlib.sha256(picture).hexdigest(), request.text, by, request.scope)
    try:
        pixels = read_picture(picture)
    except ValueError as error:
        raise BadRequest(f"The body is no picture that can be read: {error}.") from None
    return _page(parts, replace(request, picture=pixels, offset=_offset(cursor, mark)), mark)


async def similar_scenes(
    scene_id: Annotated[Id, Path(description="The scene's id.")],
    user_id: CurrentUser,
    parts: Parts,
    turns: Turns,
    limit: Limit = 10,
) -> Response:
    """The user's scenes that look most like one of them, which is not among them."""
    return await turns.run(user_id, partial(_similar, parts, scene_id, user_id, limit))


def _similar(parts: ApiParts, scene_id: UUID, user_id: UUID, limit: int) -> Response:
    hits = parts.search.similar(scene_id, Scope(user_id), limit)
    if hits is None:
        raise NotFound("There is no such scene.")
    return write_whole(SimilarScenes(items=[_shown(hit) for hit in hits]))


def _page(parts: ApiParts, request: SearchRequest, mark: str) -> Response:
    results = parts.search.search(request)
    found = FoundScenes(
        query=results.query,
        corrected=results.corrected,
        latency_ms=results.latency_ms,
        stands_out=results.stands_out,
        items=[_shown(hit) for hit in results.hits],
        next_cursor=_cursor(request.offset + request.limit, mark) if results.more else None,
    )
    return write_whole(found)


def _shown(hit: Hit) -> SceneHit:
    places: dict[str, Any] = {f"{by}_rank": hit.match.ranks.get(by) for by in Retriever}
    near = {f"{by}_similarity": hit.match.similarities.get(by) for by in (Retriever.MEANING, Retriever.PICTURE)}
    marks = [{"start": start, "end": end} for start, end in hit.scene.marks]
    scene = {**vars(hit.scene), "scene_index": hit.scene.index, "marks": marks}
    return SceneHit.model_validate(
        {**scene, **places, **near, "score": hit.match.score, "stands_out": hit.match.stands_out}
    )


# A cursor says how far the pages before it led, and in which search: another search's leads nowhere.


def _mark_of(*asked: object) -> str:
    return hashlib.sha256(repr(asked).encode()).hexdigest()[:16]


def _cursor(offset: int, mark: str) -> str:
    return base64.urlsafe_b64encode(f"{offset}.{mark}".encode()).decode().rstrip("=")


def _offset(cursor: str | None, mark: str) -> int:
    if cursor is None:
        return 0
    try:
        offset, _, of = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(".")
        if of == mark and 0 < int(offset) < MAX_DEPTH:
            return int(offset)
    except (ValueError, binascii.Error):
        pass
    raise NotFound(f"cursor: {UNKNOWN_CURSOR}")
