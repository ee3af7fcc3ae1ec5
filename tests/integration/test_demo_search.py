"""Search on the demo's own scenes with the bundled model: what is asked for comes first, seen or said."""

import re
import shlex
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from cluster.contracts.results import WrittenScene
from cluster.contracts.search import Retriever, Scope
from cluster.contracts.videos import Submission
from cluster.demo import clips, queries
from cluster.models.text import TextModel, load_text_model
from cluster.models.vision import VisionModel, load_vision_model
from cluster.search.active_models import ModelName
from cluster.search.query_models import ModelLoaders, QueryModels
from cluster.search.service import SearchRequest, SearchService
from cluster.store.postgres.connections import Pool
from cluster.store.queue.submissions import submit
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.search.engines import index_opener
from cluster.store.videos.scenes import SceneStore
from tests.support.demo_scenes import DemoDescriber
from tests.support.nonsense import NONSENSE
from tests.support.paraphrases import PARAPHRASES

OWNER = UUID(int=1)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model() -> VisionModel:
    return load_vision_model("bundled", None, "cpu", threads=1)


@pytest.fixture(scope="module")
def text_model() -> TextModel:
    return load_text_model("bundled", "cpu", threads=1)


@pytest.fixture
def service(pool: Pool, model: VisionModel, text_model: TextModel) -> SearchService:
    """All clips' scenes as they truly are, described and stored by the product."""
    describer = DemoDescriber(model, text_model)
    submit(pool, OWNER, [Submission(uri=str(clip)) for clip in clips()])
    for video in VideoQueue(pool, "test", 60.0).claim(len(clips())):
        clip = describer.describe(Path(video.uri))
        written = [
            WrittenScene(uuid4(), scene.start_s, scene.end_s, scene.key_frame_s, "", "", description)
            for scene, description in zip(clip.scenes, clip.descriptions, strict=True)
        ]
        SceneStore(pool).replace(video.id, video.lease_token, clip.transcript, written, clip.duration_s)
    bundled = ModelName("bundled")
    models = QueryModels(pool, ModelLoaders(bundled, lambda _: model, bundled, lambda _: text_model))
    return SearchService(index_opener(pool), models, pool)


def test_the_right_scene_comes_first(service: SearchService) -> None:
    wrong: dict[str, list[str]] = {"visual": [], "spoken": []}
    asked = {"visual": 0, "spoken": 0}
    for query in queries():
        first = service.search(SearchRequest(Scope(OWNER), query.text, limit=5)).hits[0].scene
        asked[query.kind] += 1
        if (first.filename, first.index) != (query.clip.name, query.scene):
            wrong[query.kind].append(f"{query.text}: {first.filename} {first.index}")
    assert asked["visual"] >= 20
    assert asked["spoken"] >= 20
    assert len(wrong["visual"]) <= 0.05 * asked["visual"], wrong["visual"]
    assert wrong["spoken"] == []


def test_documented_example_with_tag_finds_demo_scenes(service: SearchService) -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    examples = {line for page in pages for line in re.findall(r"^heimdex (search .*--tag .*)$", page.read_text(), re.M)}
    assert examples
    for example in examples:
        _, text, *options = shlex.split(example)
        given = dict(zip(options[::2], options[1::2], strict=True))
        assert set(given) <= {"--tag", "--since"}
        hits = service.search(SearchRequest(Scope(OWNER, tags=(given["--tag"],)), text, limit=1)).hits
        assert [hit.match.ranks.get(Retriever.WORDS) for hit in hits] == [1], example


def test_the_fused_list_is_no_worse_than_any_of_its_lists(service: SearchService) -> None:
    """By mean reciprocal rank; 0.9 is what the whole is to reach at least."""
    alone = {by: mean_reciprocal_rank(service, frozenset({by})) for by in Retriever}
    fused = mean_reciprocal_rank(service, frozenset(Retriever))
    assert fused >= max(0.9, *alone.values()), (fused, alone)


def test_search_of_nonsense_finds_nothing_that_stands_out(service: SearchService) -> None:
    """Of the demo's own queries at most one in twenty has nothing, of nonsense at most one in twenty something."""
    asked = [query.text for query in queries()] + [text for text, _, _ in PARAPHRASES]
    found_nothing = [text for text in asked if not stands_out(service, text)]
    found_something = [text for text in NONSENSE if stands_out(service, text)]
    assert len(asked) >= 100
    assert len(found_nothing) <= 0.05 * len(asked), found_nothing
    assert len(found_something) <= 0.05 * len(NONSENSE), found_something


def stands_out(service: SearchService, text: str) -> bool:
    results = service.search(SearchRequest(Scope(OWNER), text, limit=5))
    assert len(results.hits) == 5
    assert results.stands_out >= any(hit.match.stands_out for hit in results.hits)
    return results.stands_out


def mean_reciprocal_rank(service: SearchService, by: frozenset[Retriever]) -> float:
    """Of all queries: 1 over the place of the right scene, 0 where it is not among the first fifty."""
    asked = [(query.text, (query.clip.name, query.scene)) for query in queries()]
    asked += [(text, (clip, scene)) for text, clip, scene in PARAPHRASES]
    reciprocal = []
    for text, right in asked:
        hits = service.search(SearchRequest(Scope(OWNER), text, by=by, limit=50)).hits
        places = [(hit.scene.filename, hit.scene.index) for hit in hits]
        reciprocal.append(1 / (places.index(right) + 1) if right in places else 0.0)
    return sum(reciprocal) / len(reciprocal)
