"""Sources of models: whether the hub answers, its revisions, bundled packages, and hashes of weights."""

import hashlib
import importlib.util
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from huggingface_hub import constants as hub
from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.utils import get_session  # type: ignore[attr-defined]  # re-exported without __all__

from cluster.contracts.errors import ConfigurationError

BUNDLED = "bundled"
HUB_TIMEOUT_S = 5.0
"""Longest wait for the hub in all: looking its name up and connecting to each of its addresses included."""
REMEMBERED_S = 30.0
"""Time for which the hub's silence is believed, so that three models wait for it once."""
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")


_silent_since_s: float | None = None


def hub_answers() -> bool:
    """Whether the model hub can be reached, after ``HUB_TIMEOUT_S`` at most; its silence is remembered for a while."""
    global _silent_since_s
    if hub.HF_HUB_OFFLINE:
        return False
    if _silent_since_s is not None and time.monotonic() - _silent_since_s < REMEMBERED_S:
        return False
    answers = _succeeds_in_time(lambda: get_session().head(hub.ENDPOINT, timeout=HUB_TIMEOUT_S))
    _silent_since_s = None if answers else time.monotonic()
    return answers


def hub_has(repository: str, files: Sequence[str], revision: str | None = None) -> bool:
    """Whether the hub has one of ``files`` for this account, within ``HUB_TIMEOUT_S`` for each; downloads nothing."""
    urls = [hf_hub_url(repository, file, revision=revision) for file in files]
    return hub_answers() and any(
        _succeeds_in_time(partial(get_hf_file_metadata, url, timeout=HUB_TIMEOUT_S)) for url in urls
    )


def _succeeds_in_time(ask: Callable[[], object]) -> bool:
    """In a thread: no limit of the client covers the lookup of a name, retries, or an answer in small pieces."""
    answered = threading.Event()

    def run() -> None:
        with suppress(Exception):  # the hub's client raises its HTTP library's own types, which differ by version
            ask()
            answered.set()

    question = threading.Thread(target=run, daemon=True)
    question.start()
    question.join(HUB_TIMEOUT_S)
    return answered.is_set()


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
