"""Describes scenes by the models whose vectors are searched, whichever these are by now.

Owns what of a stage a plain process cannot know: Postgres says which models are active. Describing is
``actors.stages.scene_embedder``'s, loading and following them ``cluster.search.active_models``'.
"""

from collections.abc import Sequence

from actors.stages.scene_embedder import SceneEmbedder, SceneModels, ScenesOfVideo
from actors.workers.configs import KEY_FRAMES_PER_BATCH, VisionConfig
from cluster.contracts.errors import ConfigurationError, ModelChanged
from cluster.contracts.results import SceneDescription
from cluster.contracts.search import Retriever
from cluster.models.labels import load_labels
from cluster.models.text import load_text_model
from cluster.models.vision import load_vision_model
from cluster.search.active_models import ActiveModel, ModelName, ModelStates
from cluster.store.index.model_registry import SearchModels, State
from cluster.store.postgres.connections import open_pool


class ActiveEmbedder:
    """Holds the loaded models, and others once these have become active.

    Raises:
        ConfigurationError: the scenes that are stored were embedded by other models, or one cannot be loaded.
    """

    def __init__(self, config: VisionConfig) -> None:
        self._config = config
        self._models = SearchModels(open_pool(config.database_url, max_size=1, name="heimdex-embedder"))
        self._vision = ActiveModel(
            self._models,
            Retriever.PICTURE,
            ModelName(config.model, config.pretrained, chosen=config.chosen),
            lambda model: load_vision_model(model.name, model.pretrained, config.device, config.threads),
        )
        self._text = ActiveModel(
            self._models,
            Retriever.MEANING,
            ModelName(config.text_model),
            lambda model: load_text_model(model.name, config.device, config.threads, model.key),
        )
        self._embedder = self._made_of(self._models.by_state())

    @property
    def model(self) -> str:
        """The key of the vision model."""
        return self._embedder.models.vision.key

    def describe(self, videos: Sequence[ScenesOfVideo]) -> list[list[SceneDescription]]:
        """See :class:`SceneEmbedder`.

        Raises:
            ModelChanged: a model that has become active cannot be loaded here.
        """
        stand = self._models.by_state()
        try:
            if self._embedder.models != self._current(stand):
                self._embedder = self._made_of(stand)
        except ConfigurationError as error:
            raise ModelChanged(str(error)) from error
        return self._embedder.describe(videos)

    def _current(self, stand: ModelStates) -> SceneModels:
        return SceneModels(self._vision.current(stand), self._text.current(stand))

    def _made_of(self, stand: ModelStates) -> SceneEmbedder:
        config = self._config
        labels = load_labels(config.labels_file, stand[State.ACTIVE][Retriever.PICTURE].name)
        batch_size = KEY_FRAMES_PER_BATCH["cuda" if config.device.startswith("cuda") else "cpu"]
        return SceneEmbedder(self._current(stand), labels, config.key_frame_px, batch_size)
