"""Looks at the models of a cluster before Ray is started: all that cannot be had are named at once.

Which models these are follows from settings, hardware and the vectors that are stored. Looking for them is
``cluster.models.availability``'s.
"""

from cluster.contracts.search import Retriever
from cluster.models.availability import NamedModels, are_found, are_given, check_known, check_models
from cluster.search.active_models import ModelName, to_be_loaded
from cluster.settings import DEFAULT_SPEECH_MODELS, Settings
from cluster.store.index.model_registry import SearchModels
from cluster.store.postgres.connections import Pool


def check_models_of(settings: Settings, pool: Pool) -> None:
    """Raise ConfigurationError that names every model which is not on this machine and cannot be downloaded.

    The devices of this machine, which take seconds to find, are looked for only where a default depends on them.
    """
    if settings.whisper_model is not None:
        check_known(settings.whisper_model)
    states = SearchModels(pool).by_state()
    vision = to_be_loaded(
        states,
        Retriever.PICTURE,
        ModelName(settings.clip_model or "", settings.clip_pretrained, chosen=settings.clip_is_chosen),
    )
    text = to_be_loaded(states, Retriever.MEANING, ModelName(settings.text_model))
    if are_given(settings.whisper_model or "", vision.name, text.name):
        return
    speech = (settings.whisper_model,) if settings.whisper_model is not None else DEFAULT_SPEECH_MODELS
    if any(are_found(name, text.name) for name in speech):
        return  # the vision model alone can be missing: its worker says so, and open_clip need not be imported here
    if not vision.name:
        vision = ModelName(*settings.clip_on())
    check_models(NamedModels(settings.speech_on(), vision.name, vision.pretrained, text.name))
