"""How well a vision model knows the demo's world: `python -m tests.demo_maker.evaluate_vision_model [MODEL]`.

Owns the figures: retrieval on freshly rendered scenes after H.264, zero-shot labels, and the demo clips' own
queries. Leaves loading to `cluster.models.vision`, so any model can be put to the same questions.
"""

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from cluster.demo import clips, queries, truth
from cluster.models.vision import VisionModel, load_vision_model
from tests.demo_maker.scenes import random_scene, render
from tests.demo_maker.vocabulary import COLOURS, PLACE_LABELS, SHAPES, Scene, with_article

Pictures = npt.NDArray[np.uint8]
_WIDTH, _HEIGHT = 640, 360


@dataclass(frozen=True)
class Retrieval:
    """How often the right scene came first (a share), its mean reciprocal rank, and the queries missed."""

    queries: int
    top_1: float
    mean_reciprocal_rank: float
    missed: tuple[str, ...]


def main() -> None:
    """Report on the model named on the command line (default: bundled)."""
    report(load_vision_model(sys.argv[1] if len(sys.argv) > 1 else "bundled", None, "cpu"))


def report(model: VisionModel) -> None:
    """Print all figures of `model`."""
    print(f"{model.name} {model.version}")
    scenes = fresh_scenes(300, seed=2024)
    pictures = [after_h264(scene) for scene in scenes]
    print(
        "fresh scenes after H.264:",
        retrieval(model, pictures, [(s.caption, i) for i, s in enumerate(scenes)]),
    )
    for kind, share in label_accuracy(model, pictures, scenes).items():
        print(f"zero-shot {kind}: {share:.3f}")
    print("demo clips:", demo_retrieval(model))


def demo_retrieval(model: VisionModel) -> Retrieval:
    """The demo's visual queries against the middle frames of all true scenes of all clips."""
    pictures: list[Pictures] = []
    number: dict[tuple[Path, int], int] = {}
    for clip in clips():
        for scene, picture in enumerate(middle_frames(clip)):
            number[clip, scene] = len(pictures)
            pictures.append(picture)
    asked = [(query.text, number[query.clip, query.scene]) for query in queries() if query.kind == "visual"]
    return retrieval(model, pictures, asked)


def retrieval(model: VisionModel, pictures: Sequence[Pictures], asked: Sequence[tuple[str, int]]) -> Retrieval:
    """Rank `pictures` for each query; `asked` pairs a query with the number of its right picture."""
    likeness = model.encode_texts([query for query, _ in asked]) @ model.encode_images(pictures).T
    right = likeness[np.arange(len(asked)), [picture for _, picture in asked]]
    ranks = 1 + (likeness > right[:, None]).sum(axis=1)
    missed = tuple(query for (query, _), rank in zip(asked, ranks, strict=True) if rank > 1)
    return Retrieval(len(asked), float((ranks == 1).mean()), float((1 / ranks).mean()), missed)


def label_accuracy(model: VisionModel, pictures: Sequence[Pictures], scenes: Sequence[Scene]) -> dict[str, float]:
    """The share of pictures whose likeliest label is true, among shapes, among colours and among places."""
    seen = model.encode_images(pictures)
    kinds = {
        "shape": (
            [with_article(shape) for shape in SHAPES],
            [list(SHAPES).index(scene.shape) for scene in scenes],
        ),
        "colour": (list(COLOURS), [list(COLOURS).index(scene.colour) for scene in scenes]),
        "place": (
            [names[0] for names in PLACE_LABELS.values()],
            [list(PLACE_LABELS).index(s.place) for s in scenes],
        ),
    }
    return {
        kind: float(((seen @ model.encode_texts(names).T).argmax(axis=1) == np.array(true)).mean())
        for kind, (names, true) in kinds.items()
    }


def fresh_scenes(count: int, seed: int) -> list[Scene]:
    """Random scenes, no two with the same shape, colour and place."""
    rng = np.random.default_rng(seed)
    found: dict[str, Scene] = {}
    while len(found) < count:
        scene = random_scene(rng)
        found.setdefault(scene.caption, scene)
    return list(found.values())


def after_h264(scene: Scene) -> Pictures:
    """The third frame of the scene after it went through H.264 at a low quality."""
    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "32", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(render(scene, 3 + number / 25, _WIDTH, _HEIGHT), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    memory.seek(0)
    with av.open(memory, "r") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.asarray(frames[-1], np.uint8)


def middle_frames(clip: Path) -> list[Pictures]:
    """The picture in the middle of each true scene of `clip` (height, width, 3; uint8 RGB)."""
    middles = [(scene.start_s + scene.end_s) / 2 for scene in truth(clip).scenes]
    found: list[Pictures] = []
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            if len(found) < len(middles) and frame.time is not None and frame.time >= middles[len(found)]:
                found.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
    return found


if __name__ == "__main__":
    main()
