"""``heimdex doctor`` on models: which are named, whether they load, and whether the stored vectors are theirs."""

from collections.abc import Iterator

from cluster.cli.finding import Finding
from cluster.contracts.counts import counted
from cluster.contracts.errors import DatabaseUnavailable
from cluster.contracts.search import Retriever
from cluster.runtime import launch
from cluster.search.active_models import Keyed, ModelName, ModelStates, to_be_loaded
from cluster.settings import Settings
from cluster.store.index.model_registry import SETTINGS, SearchModels, State


def speech_model(settings: Settings) -> Iterator[Finding]:
    """Whether the model that transcribes is here or can be had."""
    from cluster.models.sources import hub_answers
    from cluster.models.speech import local_directory

    name = settings.whisper_model or "small"
    directory = local_directory(name)
    fix = "set HEIMDEX_WHISPER_MODEL to a directory with a CTranslate2 Whisper model, or to bundled"
    if directory is not None:
        yield Finding("speech model", True, f"{name}: {directory}")
    elif hub_answers():
        yield Finding("speech model", True, f"{name}: not here yet, the first `up` downloads it")
    else:
        yield Finding("speech model", False, f"{name}: not here, and the model hub cannot be reached", fix)


def vision_model(settings: Settings) -> Iterator[Finding]:
    """Whether the vision model, its labels and the stored vectors of pictures fit each other."""
    from cluster.models.labels import load_labels
    from cluster.models.vision import load_vision_model

    stand = _models_of_scenes(settings)
    configured = ModelName(*settings.clip_on(), chosen=settings.clip_is_chosen)
    named = to_be_loaded(stand, Retriever.PICTURE, configured)
    model = load_vision_model(named.name, named.pretrained, "cpu")
    seen = f"{model.key}, {model.image_size_px} px, {model.dimensions} numbers"
    fits = settings.key_frame_px >= model.image_size_px
    yield Finding("vision model", fits, seen, f"set HEIMDEX_KEY_FRAME_PX to at least {model.image_size_px}")
    yield from _other_model(Retriever.PICTURE, model, stand)
    groups = load_labels(settings.labels_file, named.name)
    yield Finding("labels", True, f"{sum(map(len, groups))} in {counted(len(groups), 'group')}")


def text_model(settings: Settings) -> Iterator[Finding]:
    """Whether the text model and the stored vectors of words fit each other."""
    from cluster.models.text import load_text_model

    stand = _models_of_scenes(settings)
    named = to_be_loaded(stand, Retriever.MEANING, ModelName(settings.text_model))
    model = load_text_model(named.name, "cpu", key=named.key)
    yield Finding("text model", True, model.key)
    yield from _other_model(Retriever.MEANING, model, stand)


def _models_of_scenes(settings: Settings) -> ModelStates:
    """Those whose vectors are stored; none where no database can say so, which is another finding."""
    from cluster.store.postgres.connections import open_pool
    from cluster.store.postgres.migrations import pending_migrations

    url = launch.existing_database_url(settings)
    try:
        if url is not None and not pending_migrations(url):
            with open_pool(url, max_size=1, name="heimdex-doctor") as pool:
                return SearchModels(pool).by_state()
    except DatabaseUnavailable:
        pass
    return {state: {} for state in State}


def _other_model(by: Retriever, model: Keyed, stand: ModelStates) -> Iterator[Finding]:
    active = stand[State.ACTIVE].get(by)
    if active is None:
        return
    if active.key != model.key:
        fix = f"set {SETTINGS[by]} to {active.name}, or embed the scenes again by `heimdex reembed`"
        yield Finding(f"vectors by {by}", False, f"all are {active.key}'s, the settings name {model.key}", fix)
    elif active.dimensions != model.dimensions:
        seen = f"they have {active.dimensions} numbers, {model.key} gives {model.dimensions}"
        yield Finding(f"vectors by {by}", False, seen, f"bring back the files of {active.name} that made them")
