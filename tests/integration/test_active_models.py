"""Holders of models follow the active ones, whatever the settings said when they were started."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from cluster.contracts.errors import ConfigurationError
from cluster.contracts.search import Retriever
from cluster.search.active_models import ActiveModel, ModelName
from cluster.store.index.model_registry import IndexedModel, SearchModels
from cluster.store.postgres.connections import Pool

OLD, NEW, THIRD = (ModelName("old", "tag"), ModelName("new"), ModelName("third"))


@dataclass(frozen=True)
class Loaded:
    key: str
    dimensions: int = 512


class Shelf:
    """Models by name, and which were taken from it."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.version = 1
        self.delay = threading.Event()
        self.delay.set()

    def load(self, model: ModelName) -> Loaded:
        self.delay.wait(10)
        self.taken.append(model.name)
        return Loaded(self.key(model))

    def key(self, model: ModelName) -> str:
        return f"{model.name}@{self.version}"

    def indexed(self, model: ModelName) -> IndexedModel:
        return IndexedModel(self.key(model), model.name, model.pretrained, 512)


@pytest.fixture
def models(pool: Pool) -> SearchModels:
    return SearchModels(pool)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


Opener = Callable[[ModelName], ActiveModel[Loaded]]


@pytest.fixture
def opened(models: SearchModels, shelf: Shelf) -> Opener:
    return lambda configured: ActiveModel(models, Retriever.PICTURE, configured, shelf.load)


def change(models: SearchModels, model: IndexedModel) -> None:
    models.begin(Retriever.PICTURE, model)
    models.switch({Retriever.PICTURE: model.key})


def test_another_model_is_loaded_once_it_is_active_and_kept(models: SearchModels, shelf: Shelf, opened: Opener) -> None:
    held = opened(OLD)
    assert held.current(models.by_state()) == Loaded("old@1")
    models.begin(Retriever.PICTURE, shelf.indexed(NEW))
    assert held.current(models.by_state()) == Loaded("old@1")
    models.switch({Retriever.PICTURE: shelf.key(NEW)})
    assert [held.current(models.by_state()) for _ in range(2)] == [Loaded("new@1")] * 2
    models.rollback()
    assert held.current(models.by_state()) == Loaded("old@1")
    assert shelf.taken == ["old", "new", "old"]


def test_a_model_that_is_to_come_is_loaded_beside_the_work(models: SearchModels, shelf: Shelf, opened: Opener) -> None:
    held = opened(OLD)
    models.begin(Retriever.PICTURE, shelf.indexed(NEW))
    shelf.delay.clear()
    for _ in range(3):
        held.load_ahead(models.by_state())
        assert held.current(models.by_state()) == Loaded("old@1")  # does not wait for it
    shelf.delay.set()
    while "new" not in shelf.taken:
        threading.Event().wait(0.001)
    models.switch({Retriever.PICTURE: shelf.key(NEW)})
    assert held.current(models.by_state()) == Loaded("new@1")


@pytest.mark.parametrize("configured", [OLD, NEW])
def test_settings_from_before_a_change_and_from_after_it_both_do(
    models: SearchModels, shelf: Shelf, opened: Opener, configured: ModelName
) -> None:
    opened(OLD)
    change(models, shelf.indexed(NEW))
    assert opened(configured).current(models.by_state()) == Loaded("new@1")
    assert shelf.taken == ["old", "new"]


def test_settings_that_name_a_third_model_are_refused(models: SearchModels, shelf: Shelf, opened: Opener) -> None:
    opened(OLD)
    change(models, shelf.indexed(NEW))
    with pytest.raises(ConfigurationError, match="all scenes are indexed by picture with new@1, not with third@1"):
        opened(THIRD)
    models.drop_old()
    with pytest.raises(ConfigurationError, match="all scenes are indexed by picture with new@1, not with old@1"):
        opened(OLD)


def test_the_same_name_with_other_weights_is_refused(models: SearchModels, shelf: Shelf, opened: Opener) -> None:
    held = opened(OLD)
    change(models, shelf.indexed(NEW))
    shelf.version = 2
    with pytest.raises(ConfigurationError, match="new is new@2 on this machine, the vectors were made by new@1"):
        held.current(models.by_state())
    with pytest.raises(ConfigurationError, match="indexed by picture with new@1, not with new@2"):
        opened(NEW)


def test_default_model_gives_way_to_the_stored_vectors_model(
    models: SearchModels, shelf: Shelf, opened: Opener
) -> None:
    """An installation keeps its model although the default has become another one."""
    opened(OLD)
    default = ModelName("default", chosen=False)
    assert opened(default).current(models.by_state()) == Loaded("old@1")
    assert shelf.taken == ["old", "old"]


def test_a_default_is_the_first_model_where_none_is_stored(models: SearchModels, opened: Opener) -> None:
    opened(ModelName("default", chosen=False))
    assert models.active()[Retriever.PICTURE].key == "default@1"


def test_loaded_model_of_another_length_is_refused(models: SearchModels, shelf: Shelf, opened: Opener) -> None:
    held = opened(OLD)
    change(models, IndexedModel(shelf.key(NEW), NEW.name, None, 768))
    with pytest.raises(ConfigurationError, match="new@1 gives 512 numbers on this machine, its vectors have 768"):
        held.current(models.by_state())
