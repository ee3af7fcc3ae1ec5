"""Search on the demo's own scenes with the bundled model: what is asked for comes first, seen or said."""

from pathlib import Path
from uuid import UUID, uuid4

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from pgvector import Vector

from cluster.demo import clips, queries, truth
from cluster.demo.truth import TrueScene
from cluster.models.vision import VisionModel, load_vision_model
from cluster.search import SearchService
from cluster.store.database import Pool
from cluster.store.search_index import PostgresSearchIndex

OWNER = UUID(int=1)


@pytest.fixture(scope="module")
def model() -> VisionModel:
    return load_vision_model("bundled", None, "cpu", threads=1)


@pytest.fixture
def service(pool: Pool, model: VisionModel) -> SearchService:
    """All clips' scenes as they truly are: the picture in the middle, the words that are spoken."""
    for clip in clips():
        video_id = uuid4()
        with pool.connection() as connection:
            connection.execute(
                "INSERT INTO videos (id, owner_id, storage_path, filename, status) VALUES (%s, %s, %s, %s, 'READY')",
                (video_id, OWNER, str(clip), clip.name),
            )
            connection.execute(
                "INSERT INTO video_transcripts (video_id, language, model, word_count, segments) "
                "VALUES (%s, 'en', 'truth', 0, '[]')",
                (video_id,),
            )
            for index, scene in enumerate(truth(clip).scenes):
                (embedding,) = model.encode_images([picture(clip, scene)])
                connection.execute(
                    """
                    WITH written AS (
                        INSERT INTO video_scenes (video_id, index, start_s, end_s, transcript_segment,
                                                  text_index)
                        VALUES (%(video)s, %(index)s, %(start)s, %(end)s, %(words)s,
                                to_tsvector('simple', %(words)s) || to_tsvector('english', %(words)s))
                        RETURNING id
                    )
                    INSERT INTO scene_embeddings (scene_id, model, embedding)
                    SELECT id, %(model)s, %(embedding)s FROM written
                    """,
                    {
                        "video": video_id,
                        "index": index,
                        "start": scene.start_s,
                        "end": scene.end_s,
                        "words": scene.words,
                        "model": model.key,
                        "embedding": Vector(embedding),
                    },
                )
    return SearchService(PostgresSearchIndex(pool), model, pool)


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
        first = service.search(OWNER, query.text, 5).hits[0].scene
        asked[query.kind] += 1
        if (first.filename, first.index) != (query.clip.name, query.scene):
            wrong[query.kind].append(f"{query.text}: {first.filename} {first.index}")
    assert asked["visual"] >= 20
    assert asked["spoken"] >= 20
    assert len(wrong["visual"]) <= 0.05 * asked["visual"], wrong["visual"]
    assert wrong["spoken"] == []
