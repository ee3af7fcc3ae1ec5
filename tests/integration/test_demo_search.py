"""Search on the demo's own scenes with the bundled model: what is asked for comes first, seen or said."""

import re
import shlex
from pathlib import Path
from uuid import UUID, uuid4

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from actors.stages.scene_embedder import SceneEmbedder, SceneModels, ScenesOfVideo
from cluster.contracts.media import DetectedScene, SceneBlock
from cluster.contracts.results import Segment, Transcript, Word, WrittenScene
from cluster.contracts.search import Retriever, Scope
from cluster.contracts.videos import Submission
from cluster.demo import clips, queries, truth
from cluster.demo.truth import TrueScene
from cluster.models.labels import load_labels
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
    """All clips' scenes as they truly are, in the middle of each, described and stored by the product."""
    embedder = SceneEmbedder(SceneModels(model, text_model), load_labels(None, "bundled"), model.image_size_px, 32)
    submit(pool, OWNER, [Submission(uri=str(clip)) for clip in clips()])
    for video in VideoQueue(pool, "test", 60.0).claim(len(clips())):
        clip = Path(video.uri)
        true = truth(clip).scenes
        found = [
            DetectedScene(n, scene.start_s, scene.end_s, scene.start_s, picture(clip, scene))
            for n, scene in enumerate(true)
        ]
        words = tuple(
            Word((scene.start_s + scene.end_s) / 2, scene.end_s, f" {scene.words}", 1.0)
            for scene in true
            if scene.words
        )
        transcript = Transcript("en", (Segment(0.0, true[-1].end_s, "", words),), "truth")
        (described,) = embedder.describe([ScenesOfVideo([SceneBlock(tuple(found))], transcript)])
        written = [
            WrittenScene(uuid4(), scene.start_s, scene.end_s, scene.key_frame_s, "", "", description)
            for scene, description in zip(found, described, strict=True)
        ]
        SceneStore(pool).replace(video.id, video.lease_token, transcript, written, true[-1].end_s)
    bundled = ModelName("bundled")
    models = QueryModels(pool, ModelLoaders(bundled, lambda _: model, bundled, lambda _: text_model))
    return SearchService(index_opener(pool), models, pool)


def picture(clip: Path, scene: TrueScene) -> NDArray[np.uint8]:
    """The picture that is shown in the middle of a scene: uint8[height, width, 3]."""
    middle_s = (scene.start_s + scene.end_s) / 2
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            if frame.time is not None and frame.time >= middle_s:
                return np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    raise AssertionError(f"{clip} ends before {middle_s} s")


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
