"""The JSON of the search in a user's scenes."""

from uuid import UUID

from pydantic import BaseModel, Field

from serve_app.schemas.admin import example


class Mark(BaseModel):
    """Where in the transcript segment something fits: ``[start, end)`` in letters."""

    start: int
    end: int


class SceneHit(BaseModel):
    """A scene that was found; the ranks (from 1) say in which list, null where it was not in it."""

    scene_id: UUID
    video_id: UUID
    filename: str | None
    uri: str | None
    scene_index: int
    start_s: float
    end_s: float
    transcript_segment: str | None
    marks: list[Mark] = Field(description="The words of the segment that fit.")
    tags: list[str]
    thumbnail_url: str | None
    words_rank: int | None
    meaning_rank: int | None
    picture_rank: int | None
    meaning_similarity: float | None = Field(description="Cosine of what is asked and what was said and seen.")
    picture_similarity: float | None = Field(description="Cosine of the query's and the picture's embedding.")
    score: float = Field(description="Weighted reciprocal rank fusion; comparable within one answer only.")
    stands_out: bool = Field(
        description="Whether words of it fit, or its meaning or picture is nearer than what is near to every query."
    )


class FoundScenes(BaseModel):
    """The scenes that fit a query best, best first.

    ``corrected``: the words that were searched instead, since none fits as it was typed. ``stands_out``: whether any
    scene does, on whichever page; where none does, these are only the nearest. ``next_cursor``: sent with the same
    query, it answers with the scenes behind these; null: there are none.
    """

    model_config = example(
        query="low tied",
        corrected="low tide",
        latency_ms=12,
        stands_out=True,
        items=[],
        next_cursor="MTAuOGYyYjY0YzE5ZDNlNzBhNQ",
    )
    query: str
    corrected: str | None
    latency_ms: int
    stands_out: bool
    items: list[SceneHit]
    next_cursor: str | None


class SimilarScenes(BaseModel):
    """The scenes whose pictures are nearest to a scene's, nearest first."""

    model_config = example(items=[])
    items: list[SceneHit]
