"""Scenes to be searched, written by the product's own code, and who looks for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from cluster.contracts.results import SceneDescription, Transcript, WrittenScene
from cluster.contracts.search import QueryVector, RankedScene, Scope
from cluster.contracts.videos import Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.submissions import submit
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.videos.scenes import SceneStore
from tests.support.api_client import WordMeanings, WordVectors

VISION, TEXT = WordVectors(), WordMeanings()


@dataclass(frozen=True)
class Scene:
    """A scene's speech, its picture in words, and its tags."""

    said: str
    shown: str = "nothing"
    tags: tuple[str, ...] = ()


def add_video(
    pool: Pool,
    owner_id: UUID,
    scenes: Sequence[Scene],
    *,
    language: str | None = "en",
    vision: str = VISION.key,
    text: str = TEXT.key,
) -> list[UUID]:
    """A video with these scenes, one a second; returns the scenes' ids."""
    submit(pool, owner_id, [Submission(uri="s3://bucket/a.mp4")])
    (video,) = VideoQueue(pool, "test", 60.0).claim(1)
    pictures = VISION.encode_texts([scene.shown for scene in scenes])
    said = ["\n".join([scene.said, ", ".join(scene.tags)]).strip() for scene in scenes]
    meanings = TEXT.encode(said)
    written = [
        WrittenScene(
            id=uuid5(video.id, str(index)),
            start_s=float(index),
            end_s=index + 1.0,
            key_frame_s=index + 0.5,
            thumbnail_url=f"file:///scenes/{video.id}/{index:05d}.jpg",
            key_frame_url=f"file:///scenes/{video.id}/{index:05d}-key.jpg",
            description=SceneDescription(
                index=index,
                transcript_segment=scene.said,
                tags=scene.tags,
                visual_summary=", ".join(scene.tags),
                combined_text=whole,
                embedding=picture,
                vision_model=vision,
                meaning=meaning if whole else None,
                text_model=text,
            ),
        )
        for index, (scene, whole, picture, meaning) in enumerate(zip(scenes, said, pictures, meanings, strict=True))
    ]
    SceneStore(pool).replace(video.id, video.lease_token, Transcript(language, (), "m"), written, float(len(written)))
    with pool.connection() as connection:  # as far as searching goes, it is done
        connection.execute("DELETE FROM video_leases WHERE video_id = %s", (video.id,))
        connection.execute("UPDATE videos SET status = 'READY' WHERE id = %s", (video.id,))
    return [scene.id for scene in written]


def seen(text: str, model: str = VISION.key) -> QueryVector:
    """The query vector of the picture list."""
    return QueryVector(model, VISION.encode_texts([text])[0])


def meant(text: str) -> QueryVector:
    """The query vector of the meaning list."""
    return QueryVector(TEXT.key, TEXT.encode([text])[0])


def cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(first @ second)


def found(ranked: Sequence[RankedScene]) -> list[UUID]:
    return [scene.scene_id for scene in ranked]


__all__ = ["TEXT", "VISION", "Scene", "Scope", "add_video", "cosine", "found", "meant", "seen"]
