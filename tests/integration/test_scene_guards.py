"""Scenes: whose they are in a search, and that a video has one in each place."""

from uuid import UUID

import psycopg
import pytest

from cluster.contracts.search import QueryVector, Retriever, Scope, parse_words
from cluster.store.postgres.connections import Pool
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.search.postgres_index import PostgresSearchIndex
from cluster.store.videos.scenes import SceneStore
from tests.support.queued_videos import OWNER, claim_one, scenes, transcript, unit

OTHER = UUID(int=8)


@pytest.fixture
def index(pool: Pool) -> PostgresSearchIndex:
    """With a video of the owner's: two scenes, of which the words and the pictures are known."""
    video = claim_one(pool, VideoQueue(pool, "first", 60.0))
    written = scenes(video.id, "the tide", "the moon")
    SceneStore(pool).replace(video.id, video.lease_token, transcript("the tide the moon"), written, 2.0)
    return PostgresSearchIndex(pool)


@pytest.mark.parametrize("limit", [1, 10])
@pytest.mark.parametrize("way", ["words", "pictures"])
def test_nobody_finds_anothers_scenes(index: PostgresSearchIndex, way: str, limit: int) -> None:
    def found(owner_id: UUID) -> int:
        if way == "words":
            return len(index.words(parse_words("tide"), Scope(owner_id), limit))
        return len(index.nearest(Retriever.PICTURE, QueryVector("bundled@1", unit(0)), Scope(owner_id), limit))

    assert found(OWNER) > 0
    assert found(OTHER) == 0


@pytest.mark.usefixtures("index")
def test_two_scenes_of_a_video_have_no_place_in_common(pool: Pool) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation), pool.connection() as connection:
        connection.execute("UPDATE video_scenes SET index = 0")
