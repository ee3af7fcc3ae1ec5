"""Scenes with key frames as the product stores them, and models that differ from the bundled ones."""

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import av
import torch
from safetensors.torch import load_file, save_file

from actors.stages.scene_embedder import SceneEmbedder, SceneModels, ScenesOfVideo
from actors.stages.scene_writer import SceneWriter
from cluster.contracts.media import DetectedScene, SceneBlock
from cluster.contracts.results import SceneDescription, Segment, Transcript, Word
from cluster.contracts.videos import Submission
from cluster.demo import clips, truth
from cluster.models.bundled import bundled_vision_directory
from cluster.models.labels import load_labels
from cluster.models.text import load_text_model
from cluster.models.text_files import model_directory
from cluster.models.vision import load_vision_model
from cluster.store.postgres.connections import Pool
from cluster.store.queue.submissions import submit
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.videos.scenes import SceneStore

KEY_FRAME_PX = 288
NOISE = 0.2


@cache
def bundled_models() -> SceneModels:
    return SceneModels(load_vision_model("bundled", None, "cpu", 1), load_text_model("bundled", "cpu", 1))


@cache
def described(clip: Path) -> tuple[SceneBlock, Transcript, list[SceneDescription]]:
    """A clip's true scenes with a picture out of the middle of each, described by the bundled models."""
    scenes = truth(clip).scenes
    middles_s = [(scene.start_s + scene.end_s) / 2 for scene in scenes]
    block = SceneBlock(
        tuple(
            DetectedScene(n, scene.start_s, scene.end_s, scene.start_s, picture)
            for n, (scene, picture) in enumerate(zip(scenes, _pictures(clip, middles_s), strict=True))
        )
    )
    words = tuple(
        Word(at_s, scene.end_s, f" {scene.words}", 1.0)
        for scene, at_s in zip(scenes, middles_s, strict=True)
        if scene.words
    )
    transcript = Transcript("en", (Segment(0.0, scenes[-1].end_s, "", words),), "truth")
    models = bundled_models()
    embedder = SceneEmbedder(models, load_labels(None, "bundled"), models.vision.image_size_px, 32)
    (descriptions,) = embedder.describe([ScenesOfVideo([block], transcript)])
    return block, transcript, descriptions


def _pictures(clip: Path, at_s: list[float]) -> Iterator[Any]:
    waiting = list(at_s)
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            if waiting and frame.time is not None and frame.time >= waiting[0]:
                waiting.pop(0)
                width_px = round(frame.width * KEY_FRAME_PX / frame.height)
                yield frame.reformat(width_px, KEY_FRAME_PX, "rgb24").to_ndarray()


def store_clips(pool: Pool, owner_id: UUID, folder: Path, copies: int = 1, most: int = 8) -> int:
    """The demo's clips, each so many times, with their key frames in ``folder``; returns how many scenes there are."""
    submit(pool, owner_id, [Submission(uri=str(clip)) for clip in clips()[:most] for _ in range(copies)])
    writer = SceneWriter(SceneStore(pool), str(folder))
    return sum(
        writer.write(video.id, video.lease_token, [block], descriptions, transcript)
        for video in VideoQueue(pool, "test", 600.0).claim(1000)
        for block, transcript, descriptions in [described(Path(video.uri))]
    )


def other_vision_model(folder: Path) -> Path:
    """A directory with the bundled vision model, of which the weights are others."""
    return _with_other_weights(bundled_vision_directory(), folder)


def other_text_model(folder: Path) -> Path:
    """The same of the bundled text model."""
    return _with_other_weights(model_directory("bundled"), folder)


def _with_other_weights(directory: Path, folder: Path) -> Path:
    shutil.copytree(directory, folder)
    random = torch.Generator().manual_seed(7)
    for file in folder.glob("*.safetensors"):
        weights = load_file(file)
        for name, tensor in weights.items():
            if tensor.is_floating_point() and tensor.ndim > 1:  # what normalises must not become negative
                noise = torch.randn(tensor.shape, generator=random, dtype=torch.float32)
                weights[name] = (tensor.float() + NOISE * tensor.float().std() * noise).to(tensor.dtype)
        save_file(weights, file, {"format": "pt"})
    return folder
