"""``heimdex tags`` lists what ``search --tag`` finds, by the beginning of a tag or of a word in it."""

import json
import subprocess
from collections.abc import Callable
from uuid import UUID

import pytest

from cluster.store.postgres.connections import Pool
from cluster.store.videos.tags import count_tags
from tests.support.api_client import ApiMaker, headers
from tests.support.queued_videos import OWNER
from tests.support.searchable import Scene, add_video

Command = Callable[..., "subprocess.CompletedProcess[bytes]"]
OTHER = UUID(int=8)


@pytest.fixture
def _tagged(pool: Pool) -> None:
    add_video(pool, OWNER, [Scene("one", tags=("red", "a circle")), Scene("two", tags=("red", "a stage with people"))])
    add_video(pool, OWNER, [Scene("three", tags=("Red", "a circus")), Scene("four")])
    add_video(pool, OTHER, [Scene("five", tags=("blue",))])


def names(pool: Pool, prefix: str, limit: int = 100) -> list[str]:
    return [row["tag"] for row in count_tags(pool, OWNER, prefix, limit)]


@pytest.mark.usefixtures("_tagged")
def test_tags_are_counted_those_of_most_scenes_first(heimdex: Command, pool: Pool) -> None:
    assert count_tags(pool, OWNER, "", 2) == [
        {"tag": "red", "scenes": 2, "videos": 1},
        {"tag": "Red", "scenes": 1, "videos": 1},
    ]
    assert heimdex("tags").stdout.decode().splitlines()[0] == "     2 scenes      1 video   red"
    assert [row["tag"] for row in json.loads(heimdex("tags", "--owner", str(OTHER), "--json").stdout)] == ["blue"]
    assert heimdex("tags", "green").stdout == b"No scene has such a tag.\n"


@pytest.mark.usefixtures("_tagged")
def test_tags_fit_by_the_beginning_of_a_word(pool: Pool) -> None:
    assert set(names(pool, "")) == {"red", "Red", "a circle", "a circus", "a stage with people"}
    assert names(pool, "RE") == ["red", "Red"]
    assert set(names(pool, "circ")) == {"a circle", "a circus"}
    assert names(pool, "stage with p") == ["a stage with people"]
    assert names(pool, "ed") == names(pool, "%") == names(pool, "circle a") == []


@pytest.mark.usefixtures("_tagged")
def test_every_tag_that_is_listed_finds_its_scenes(pool: Pool, make_api: ApiMaker) -> None:
    api = make_api()
    for row in count_tags(pool, OWNER, "", 100):
        asked = {"q": "one or two or three or four", "by": "words", "tag": row["tag"]}
        found = api.get("/v1/search", params=asked, headers=headers(OWNER)).json()["items"]
        tags = [tag for scene in found for tag in scene["tags"]]
        assert len(found) == sum(tag.lower() == row["tag"].lower() for tag in tags) >= row["scenes"]
