"""The tokenizer of a vision model: what makes numbers of words for it.

CLIP and PE have theirs in open_clip. SigLIP's is a file of the model's repository at the hub, or of the directory that
the model is loaded from.
"""

import json
from pathlib import Path
from typing import Any

import open_clip
from huggingface_hub import try_to_load_from_cache

from cluster.contracts.errors import ConfigurationError
from cluster.models.sources import hub_answers

_FILES = ("tokenizer.json", "tokenizer_config.json")
_DIRECTORY = "local-dir:"


def load_tokenizer(architecture: str, model: str) -> Any:
    """The tokenizer of an open_clip architecture, or of a directory ("local-dir:PATH"); ``model``: its name for people.

    A copy in the hub's local cache is used without asking the hub.

    Raises:
        ConfigurationError: its files are neither here nor at a hub that answers at once, or cannot be read.
    """
    repository = _repository(architecture)
    if repository is None:
        return open_clip.get_tokenizer(architecture)
    if architecture.startswith(_DIRECTORY):
        directory = Path(architecture.removeprefix(_DIRECTORY))
        missing = [name for name in _FILES if not (directory / name).is_file()]
        if missing:
            raise ConfigurationError(
                f"vision model {model} has no {' and no '.join(missing)} in {directory}: copy the tokenizer's files of "
                f"{repository} there"
            )
        local = True
    else:
        local = all(isinstance(try_to_load_from_cache(repository, name), str) for name in _FILES)
        if not local and not hub_answers():
            raise ConfigurationError(
                f"vision model {model}: the model hub, which has its tokenizer ({repository}), could not be reached; "
                "set HEIMDEX_CLIP_MODEL to a directory with the model and its tokenizer, or to bundled"
            )
    try:
        return open_clip.get_tokenizer(architecture, local_files_only=local)
    except Exception as error:  # transformers and the hub's client raise types of many libraries
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigurationError(f"the tokenizer of vision model {model} cannot be loaded: {reason}") from error


def _repository(architecture: str) -> str | None:
    """The repository at the hub that has the tokenizer; None where open_clip has it itself."""
    if architecture.startswith(_DIRECTORY):
        config = json.loads((Path(architecture.removeprefix(_DIRECTORY)) / "open_clip_config.json").read_text())
        text = config.get("model_cfg", {}).get("text_cfg", {})
    else:
        text = (open_clip.get_model_config(architecture) or {}).get("text_cfg", {})
    name = text.get("hf_tokenizer_name")
    return str(name) if name else None
