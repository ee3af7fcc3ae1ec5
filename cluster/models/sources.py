"""Sources of models: whether the hub answers, its revisions, bundled packages, and hashes of weights."""

import hashlib
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import constants as hub
from huggingface_hub.utils import get_session  # type: ignore[attr-defined]  # re-exported without __all__

from cluster.contracts.errors import ConfigurationError

BUNDLED = "bundled"
HUB_TIMEOUT_S = 10.0
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")


def hub_answers() -> bool:
    """Whether the model hub can be reached: asked once, with a short limit."""
    if hub.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(hub.ENDPOINT, timeout=HUB_TIMEOUT_S)
    except Exception:  # the hub's client raises its HTTP library's own types, which differ by version
        return False
    return True


def split_revision(name: str) -> tuple[str, str | None]:
    """Split ``name@revision``: the name at the hub and, if one is given, a commit, tag or branch there.

    Raises:
        ConfigurationError: there is an @ with nothing before it or with no revision after it.
    """
    model, at, revision = name.partition("@")
    if not at:
        return name, None
    if not model or not _REVISION.fullmatch(revision):
        raise ConfigurationError(f"model {name}: after @ comes a commit, tag or branch of the hub, as in name@1a2b3c4")
    return model, revision


def bundled_directory(package: str) -> Path | None:
    """The models in an installed package; it is found, not imported: none of its code runs."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def content_hash(files: Sequence[Path]) -> str:
    """The first 12 digits of a SHA-256 over the files: it identifies a version of a model's weights."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:12]
