"""The demo's scenes as they truly are, described by the product's own models: nothing is detected or recognised."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from actors.stages.scene_embedder import SceneEmbedder, SceneModels, ScenesOfVideo
from cluster.contracts.media import DetectedScene, SceneBlock
from cluster.contracts.results import SceneDescription, Segment, Transcript, Word
from cluster.demo import clips, truth
from cluster.demo.truth import TrueScene
from cluster.models.labels import load_labels
from cluster.models.text import TextModel
from cluster.models.vision import VisionModel


@dataclass(frozen=True)
class DescribedClip:
    """A clip's scenes, each with the picture in its middle, and what is said in them."""

    scenes: Sequence[DetectedScene]
    descriptions: Sequence[SceneDescription]
    transcript: Transcript
    duration_s: float


class DemoDescriber:
    """Describes the demo's clips by these models."""

    def __init__(self, vision: VisionModel, text: TextModel) -> None:
        models = SceneModels(vision, text)
        self._embedder = SceneEmbedder(models, load_labels(None, "bundled"), vision.image_size_px, 32)

    def describe(self, clip: Path) -> DescribedClip:
        """The true scenes of a clip."""
        true = truth(clip).scenes
        found = [
            DetectedScene(n, scene.start_s, scene.end_s, scene.start_s, _picture(clip, scene))
            for n, scene in enumerate(true)
        ]
        words = tuple(
            Word((scene.start_s + scene.end_s) / 2, scene.end_s, f" {scene.words}", 1.0)
            for scene in true
            if scene.words
        )
        transcript = Transcript("en", (Segment(0.0, true[-1].end_s, "", words),), "truth")
        (described,) = self._embedder.describe([ScenesOfVideo([SceneBlock(tuple(found))], transcript)])
        return DescribedClip(found, described, transcript, true[-1].end_s)


def described_scenes(vision: VisionModel, text: TextModel) -> list[SceneDescription]:
    """Of all scenes of all clips, in order."""
    describer = DemoDescriber(vision, text)
    return [scene for clip in clips() for scene in describer.describe(clip).descriptions]


def _picture(clip: Path, scene: TrueScene) -> NDArray[np.uint8]:
    """The picture that is shown in the middle of a scene: uint8[height, width, 3]."""
    middle_s = (scene.start_s + scene.end_s) / 2
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            if frame.time is not None and frame.time >= middle_s:
                return np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    raise AssertionError(f"{clip} ends before {middle_s} s")
