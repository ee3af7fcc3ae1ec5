"""Small results to be written, each marked with its lease token: ``audit.sql`` compares it with the lease itself."""

import uuid
from typing import Any

import numpy as np

from cluster.contracts.media import MediaInfo
from cluster.contracts.results import SceneDescription, Segment, Transcript, Word, WrittenScene
from cluster.contracts.videos import ClaimedVideo
from tests.support.vector_lengths import EMBEDDING_DIM

DURATION_S = 12.5
MODEL = "chaos"


def media(token: int) -> MediaInfo:
    """The result of a probe."""
    return MediaInfo(
        duration_s=DURATION_S,
        start_s=0.0,
        fps=25.0,
        width=640,
        height=360,
        rotation_deg=0,
        video_codec="h264",
        audio_codec="aac",
        size_bytes=token,
    )


def transcript(token: int) -> Transcript:
    """Two words."""
    words = (Word(0.0, 0.5, " red", 0.9), Word(0.5, 1.0, " circle", 0.9))
    return Transcript("en", (Segment(0.0, 1.0, "red circle", words),), str(token))


def scenes(video: ClaimedVideo, count: int) -> list[WrittenScene]:
    """As many scenes; their ids are the same in every attempt."""
    return [_scene(video, index) for index in range(count)]


def _scene(video: ClaimedVideo, index: int) -> WrittenScene:
    return WrittenScene(
        id=uuid.uuid5(video.id, str(index)),
        start_s=float(index),
        end_s=index + 1.0,
        key_frame_s=index + 0.5,
        thumbnail_url=str(video.lease_token),
        key_frame_url="file:///key.jpg",
        description=SceneDescription(
            index=index,
            transcript_segment="red circle",
            tags=("red",),
            visual_summary="red",
            combined_text="red circle",
            embedding=_unit(video, index),
            vision_model=MODEL,
            meaning=None,
            text_model=MODEL,
        ),
    )


def _unit(video: ClaimedVideo, index: int) -> Any:
    embedding = np.random.default_rng([video.id.int % 2**63, index]).normal(size=EMBEDDING_DIM)
    return (embedding / np.linalg.norm(embedding)).astype(np.float32)
