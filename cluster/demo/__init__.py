"""Sample clips whose truth is known: where they are stored, and what is true of them.

``tests/demo_maker`` made them. The models that ``heimdex demo`` uses are ``cluster.models.bundled``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cluster.demo.truth import Truth, read_truth

_HERE = Path(__file__).resolve().parent
_SUFFIXES = frozenset({".mp4", ".webm", ".mov"})


@dataclass(frozen=True)
class Query:
    """A search with one right answer among all clips: scene number `scene` of `clip`."""

    kind: Literal["visual", "spoken"]
    text: str
    clip: Path
    scene: int


def clips() -> list[Path]:
    """The sample clips, by name."""
    return sorted(path for path in (_HERE / "clips").iterdir() if path.suffix in _SUFFIXES)


def truth(clip: Path) -> Truth:
    """What is known of `clip`: cuts, scenes, spoken words and queries."""
    return read_truth(clip)


def queries() -> list[Query]:
    """Every visual and spoken query of all clips, each with its one right scene."""
    found: list[Query] = []
    for clip in clips():
        known = truth(clip)
        found += [Query("visual", query.query, clip, query.scene) for query in known.visual_queries]
        found += [Query("spoken", query.query, clip, query.scene) for query in known.spoken_queries]
    return found
