"""The text model: sentences into a space where what means the same is near, by sentence-transformers.

Owns loading and asking it. Finding its files, at the hub, in a directory or bundled, is ``text_files``'s.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from cluster.contracts.errors import ConfigurationError
from cluster.models.device_errors import device_errors
from cluster.models.sources import content_hash
from cluster.models.text_files import REMEDY, model_directory

_BATCH = 64

_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
"""Names in sentence-transformers of the prompt of what is searched, in this order."""
_E5 = re.compile(r"(^|[/_-])e5-(small|base|large)(?!.*instruct)")


@dataclass(frozen=True)
class Prompts:
    """What a model wants before what is asked, and before what is searched."""

    query: str
    document: str

    @property
    def mark(self) -> str:
        """Six hexadecimal digits that identify the vectors made with these prompts."""
        return hashlib.sha256(f"{self.query}\0{self.document}".encode()).hexdigest()[:6]


E5_PROMPTS = Prompts("query: ", "passage: ")
"""Wang et al. 2022, "Text Embeddings by Weakly-Supervised Contrastive Pre-training", 4.1: E5 was trained with these."""


class TextModel:
    """A loaded sentence-transformers model; its embeddings are float32 rows of length 1, compared by dot product.

    ``key``: what a stored embedding calls the model that made it; only vectors of one key can be compared.
    ``dimensions``: how many numbers each has. Some models want a prompt before what is asked, and another before what
    is searched ("query: ", "passage: "), as their configuration says: they get it, and the key says so.
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
            raise ConfigurationError(f"text model {name} cannot be loaded: {reason}; {REMEDY}") from error
        self.key = self.plain_key = f"{name}@{content_hash(_weights(directory))}"
        self.prompts = prompts_of(self._model.prompts, name)
        if self.prompts is not None:
            self.key += f"+{self.prompts.mark}"
        self.dimensions = self._encoded([""], None).shape[1]

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed what scenes say: (n, dimensions). What is longer than the model reads is cut off there."""
        return self._encoded(texts, self.prompts.document if self.prompts else None)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed what is asked: (n, dimensions)."""
        return self._encoded(texts, self.prompts.query if self.prompts else None)

    def _encoded(self, texts: Sequence[str], prompt: str | None) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, self.dimensions), np.float32)
        with device_errors():
            rows = self._model.encode(
                list(texts), prompt=prompt, batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False
            )
        return np.asarray(rows, np.float32)


def _weights(directory: Path) -> list[Path]:
    """The files with the weights of all modules, whether in the directory of the model or in those below it."""
    folders = {directory / module["path"] for module in json.loads((directory / "modules.json").read_text())}
    found: list[Path] = []
    for folder in sorted({directory, *folders}):
        found += sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    return found


def prompts_of(configured: Mapping[str, str | None], name: str) -> Prompts | None:
    """The prompts of a model, by its configuration or, of a family that is published without, by its name."""
    found = Prompts(
        configured.get("query") or "",
        next((prompt for kind in _DOCUMENT_PROMPTS if (prompt := configured.get(kind))), ""),
    )
    if not any((found.query, found.document)) and _E5.search(name):
        return E5_PROMPTS
    return found if any((found.query, found.document)) else None


def load_text_model(name: str, device: str, threads: int | None = None, key: str | None = None) -> TextModel:
    """Load a text model on ``device`` ("cpu", "cuda").

    ``name``: a name at the hub ("all-MiniLM-L6-v2", "owner/name", either with ``@revision``), a directory, or
    "bundled"; ``threads``: CPU threads
    of this process; ``key``: of its vectors that are stored: made before prompts were known, they are gone on with
    without. A copy in the hub's local cache is used without asking the hub.

    Raises:
        ConfigurationError: the model is unknown, or the hub cannot be reached (asked once).
    """
    model = TextModel(model_directory(name), name, device, threads)
    if model.prompts is not None and model.plain_key == key:
        model.key, model.prompts = model.plain_key, None
    return model
