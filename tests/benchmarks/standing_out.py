"""When a scene is distinct (``stands_out``): the demo's queries against nonsense, with few and with many scenes around.

    python -m tests.benchmarks.standing_out

Keeps its figures in ``standing_out.md``; the thresholds of ``cluster.search.fusion`` come from there. The scenes are
the demo's as they truly are; those around them are sentences of the Python library's documentation.
"""

import ast
import re
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from cluster.contracts.search import ModelKeys, RankedScene, Retriever
from cluster.demo import queries
from cluster.models.text import load_text_model
from cluster.models.vision import load_vision_model
from cluster.search.fusion import FULL_LIST, MEANING_FLOORS, STANDS_OUT, STANDS_OUT_OF_FULL, floors_of, fuse
from tests.benchmarks.machine import machine
from tests.support.demo_scenes import described_scenes
from tests.support.nonsense import NONSENSE
from tests.support.paraphrases import PARAPHRASES

KEPT = Path(__file__).with_suffix(".md")
AROUND = (0, 300, 1000, 5000)
"""Further scenes, beside the demo's."""
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Asked:
    """Queries of a kind, as both models read them: float32[n, dimensions] each."""

    kind: str
    pictures: Matrix
    meanings: Matrix


@dataclass(frozen=True)
class Collection:
    """The scenes that are searched: float32[n, dimensions] each."""

    pictures: Matrix
    meanings: Matrix


def documentation_sentences(most: int) -> list[str]:
    """Sentences of the docstrings of Python's own library, the same ones each time, in no order."""
    found: set[str] = set()
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if not {"site-packages", "test", "tests", "lib2to3"} & set(path.parts):
            found.update(_sentences(path))
    chosen = np.random.default_rng(0).permutation(sorted(found))[:most]
    return [str(sentence) for sentence in chosen]


def _sentences(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            for sentence in re.split(r"(?<=\.)\s", ast.get_docstring(node) or ""):
                joined = " ".join(sentence.split())
                if 30 < len(joined) < 200 and joined.endswith("."):
                    yield joined


def _nearest(query: NDArray[np.float32], scenes: Matrix) -> list[RankedScene]:
    similarities = scenes @ query
    return [
        RankedScene(UUID(int=int(place)), float(similarities[place])) for place in np.argsort(-similarities)[:FULL_LIST]
    ]


def _deviations(scores: Sequence[float]) -> float:
    return float((scores[0] - np.mean(scores)) / np.std(scores))


def _row(asked: Asked, scenes: Collection, models: ModelKeys, around: int) -> str:
    """A row: how near the nearest are, and for which share of the queries a scene is distinct."""
    floors = floors_of(models)
    cosines, deviations = [], []
    out = {"meaning": 0, "without": 0, "picture": 0, "either": 0}
    for picture, meaning in zip(asked.pictures, asked.meanings, strict=True):
        lists = {Retriever.MEANING: _nearest(meaning, scenes.meanings)}
        if not around:  # nothing around the demo's scenes has a picture
            lists[Retriever.PICTURE] = _nearest(picture, scenes.pictures)
        scores = [scene.score for scene in lists[Retriever.MEANING]]
        cosines.append(scores[0])
        deviations.append(_deviations(scores))
        by = {
            name: any(scene.stands_out for scene in fuse({name: found}, floors=floors)) for name, found in lists.items()
        }
        for name, stands_out in by.items():
            out[name] += stands_out
        out["without"] += any(scene.stands_out for scene in fuse({Retriever.MEANING: lists[Retriever.MEANING]}))
        out["either"] += any(by.values())
    shares = [f"{out[name] / len(cosines):.2f}" for name in out]
    if around:
        shares[2:] = ["", ""]
    low, middle, high = np.percentile(cosines, [5, 50, 95])
    z_low, z_middle, z_high = np.percentile(deviations, [5, 50, 95])
    return (
        f"| {len(scenes.meanings):,} | {asked.kind} | {len(cosines)} | {low:.2f} / {middle:.2f} / {high:.2f} "
        f"| {z_low:.1f} / {z_middle:.1f} / {z_high:.1f} | {' | '.join(shares)} |"
    )


def report() -> str:
    """The whole page."""
    vision, text = load_vision_model("bundled", None, "cpu", 1), load_text_model("bundled", "cpu", 1)
    models = ModelKeys(vision.key, text.key)
    kinds: dict[str, list[str]] = {"what is seen": [], "what was said": []}
    for query in queries():
        kinds["what is seen" if query.kind == "visual" else "what was said"].append(query.text)
    kinds |= {"the same in other words": [words for words, _, _ in PARAPHRASES], "nonsense": list(NONSENSE)}
    asked = [Asked(kind, vision.encode_texts(texts), text.encode_queries(texts)) for kind, texts in kinds.items()]
    scenes = described_scenes(vision, text)
    pictures = np.asarray([scene.embedding for scene in scenes], np.float32)
    meanings = np.asarray([scene.meaning for scene in scenes], np.float32)
    sentences = documentation_sentences(max(AROUND))
    further = np.concatenate([text.encode(sentences[at : at + 64]) for at in range(0, len(sentences), 64)])
    rows = [
        _row(one, Collection(pictures, np.concatenate([meanings, further[:around]])), models, around)
        for around in AROUND
        for one in asked
    ]
    return "\n".join(
        [
            _HEAD.format(machine=machine(), least=STANDS_OUT, full=STANDS_OUT_OF_FULL, floor=MEANING_FLOORS["bundled"]),
            *rows,
            "",
        ]
    )


_HEAD = """# Clear matches

{machine}. Made by `python -m tests.benchmarks.standing_out`.

The demo's scenes alone, and among so many sentences of the documentation of Python's library; the bundled models (the
sentence model is all-MiniLM-L6-v2). Cosine and deviations are of the nearest scene in the list of meanings: the cosine,
and how many standard deviations it is above the list's mean (5 % / median / 95 % of the queries). The shares are of the
queries with a clear match: in meanings from {least} deviations and a cosine of {floor.of_all}, in a full list
(the nearest 100 of more) of {floor.of_full}; by a model without floors, as other sentence models and all pictures are
judged, from {least} deviations, in a full list {full}. Words, which are clear wherever they fit, are left out.

| scenes | asked | queries | cosine | deviations | by meaning | without floors | by picture | by either |
|---:|---|---:|---|---|---:|---:|---:|---:|"""


if __name__ == "__main__":
    KEPT.write_text(report())
    print(KEPT.read_text())
