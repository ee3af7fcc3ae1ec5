"""What is known of a demo clip: the JSON beside it, as a record.

Owns the file's format. Leaves finding the clips to the package, making them to `make_clips`.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Dissolve(_Record):
    """One scene fading into the next, from the first mixed frame to the last."""

    start_s: float
    end_s: float


class TrueScene(_Record):
    """A scene `[start_s, end_s)`: what it shows and the sentence that is spoken within it."""

    start_s: float
    end_s: float
    shape: str
    colour: str
    place: str
    caption: str
    words: str


class TrueQuery(_Record):
    """Something to search for, and the number of the one scene of the clip that answers it."""

    query: str
    scene: int


class Truth(_Record):
    """All that is known of one clip; `cuts_s` are the hard cuts, a dissolve is not among them."""

    file: str
    duration_s: float
    fps: int
    variable_frame_rate: bool
    width: int
    height: int
    cuts_s: tuple[float, ...]
    dissolves: tuple[Dissolve, ...]
    scenes: tuple[TrueScene, ...]
    words: str
    visual_queries: tuple[TrueQuery, ...]
    spoken_queries: tuple[TrueQuery, ...]


def read_truth(clip: Path) -> Truth:
    """The truth of `clip`, from the .json that carries its name."""
    return Truth.model_validate_json(clip.with_suffix(".json").read_bytes())


def write_truth(clip: Path, truth: Truth) -> None:
    """Write `truth` beside `clip`."""
    clip.with_suffix(".json").write_text(truth.model_dump_json(indent=2) + "\n")
