"""Holds the models whose vectors are searched, and others in their place once these have become active.

Which they are is in Postgres (``cluster.store.index.model_registry``). What the settings name is only how the first
ones are found: a process that was started before the models changed goes on with those that are active now.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from cluster.contracts.errors import ConfigurationError, HeimdexError
from cluster.contracts.events import Event
from cluster.contracts.search import Retriever
from cluster.security.event_log import EventLog
from cluster.store.index.model_registry import IndexedModel, Models, SearchModels, State

logger = EventLog(__name__)

ModelStates = Mapping[State, Models]
"""All models by state, at one moment."""


class Keyed(Protocol):
    """A loaded model."""

    @property
    def key(self) -> str:
        """What its vectors are filed under."""
        ...

    @property
    def dimensions(self) -> int:
        """How many numbers a vector of it has."""
        ...


@dataclass(frozen=True)
class ModelName:
    """A model as the settings name it.

    ``key``: what its vectors are filed under that are stored, where there are some. ``chosen``: whether it was set; a
    default gives way to the model whose vectors are stored.
    """

    name: str
    pretrained: str | None = None
    key: str | None = field(default=None, compare=False)
    chosen: bool = field(default=True, compare=False)


Model = TypeVar("Model", bound=Keyed)


class ActiveModel(Generic[Model]):
    """The loaded model of one space; safe to share between threads.

    Raises:
        ConfigurationError: the model that is configured is not the one whose vectors there are, and never was while
            its own are kept; or the model cannot be loaded.
    """

    def __init__(
        self, models: SearchModels, by: Retriever, configured: ModelName, load: Callable[[ModelName], Model]
    ) -> None:
        self._by = by
        self._load = load
        self._lock = threading.Lock()
        self._ahead: set[str] = set()
        stand = models.by_state()
        named = to_be_loaded(stand, by, configured)
        first = load(named)
        models.adopt(by, IndexedModel(first.key, named.name, named.pretrained, first.dimensions))
        self._loaded = {first.key: first}

    def current(self, stand: ModelStates) -> Model:
        """The active model of these states. One that is not loaded yet is waited for."""
        active = stand[State.ACTIVE][self._by]
        with self._lock:
            if active.key not in self._loaded:
                self._loaded[active.key] = self._loaded_as(active)
            kept = {active.key, *(model.key for model in _coming(stand, self._by))}
            self._loaded = {key: model for key, model in self._loaded.items() if key in kept}
            return self._loaded[active.key]

    def load_ahead(self, stand: ModelStates) -> None:
        """Load the model that is about to become active in a thread of its own: no search waits for it then."""
        for model in _coming(stand, self._by):
            with self._lock:
                begun = model.key in self._ahead or model.key in self._loaded
                self._ahead.add(model.key)
            if not begun:
                threading.Thread(target=self._load_beside, args=(model,), daemon=True).start()

    def _load_beside(self, model: IndexedModel) -> None:
        try:
            loaded = self._loaded_as(model)
        except HeimdexError as error:  # its next use, once it is active, tries again and says so
            logger.warning(Event.MODEL_NOT_PRELOADED, model=model.key, error=error)
            return
        with self._lock:
            self._loaded.setdefault(model.key, loaded)

    def _loaded_as(self, model: IndexedModel) -> Model:
        loaded = self._load(_named(model))
        if loaded.key != model.key:
            raise ConfigurationError(
                f"the {self._by} model {model.name} is {loaded.key} on this machine, the vectors were made by "
                f"{model.key}: bring the same files here"
            )
        if loaded.dimensions != model.dimensions:
            raise ConfigurationError(
                f"the {self._by} model {model.key} gives {loaded.dimensions} numbers on this machine, its vectors have "
                f"{model.dimensions}: bring the same files here"
            )
        return loaded


def to_be_loaded(stand: ModelStates, by: Retriever, configured: ModelName) -> ModelName:
    """The model that a process with these settings begins with: the active one, also where they name an earlier one.

    So it is where they name none.
    """
    active = stand[State.ACTIVE].get(by)
    known = [_named(model) for space in stand.values() for found, model in space.items() if found is by]
    return _named(active) if active is not None and (not configured.chosen or configured in known) else configured


def _named(model: IndexedModel) -> ModelName:
    return ModelName(model.name, model.pretrained, model.key)


def _coming(stand: ModelStates, by: Retriever) -> list[IndexedModel]:
    return [model for found, model in stand[State.FILLING].items() if found is by]
