"""Where models come from: whether the hub answers, which package bundles one, and what tells weights apart."""

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import constants as hub
from huggingface_hub.utils import get_session  # type: ignore[attr-defined]  # re-exported without __all__

BUNDLED = "bundled"
HUB_TIMEOUT_S = 10.0


def hub_answers() -> bool:
    """Whether the model hub can be reached: asked once, with a short limit."""
    if hub.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(hub.ENDPOINT, timeout=HUB_TIMEOUT_S)
    except Exception:  # the hub's client raises its HTTP library's own types, which differ by version
        return False
    return True


def bundled_directory(package: str) -> Path | None:
    """The models in an installed package; it is found, not imported: none of its code runs."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def content_hash(files: Sequence[Path]) -> str:
    """The first 12 digits of a SHA-256 over the files: what tells one version of a model's weights from another."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:12]
