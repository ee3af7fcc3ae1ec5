"""Embeds again what is stored, by other models or where something is missing, and switches searches to it.

    ray job submit --working-dir . -- python -m cluster.cli.reembed_command --vision bundled

Owns the order of things: begin, embed what is lacking until nothing is, switch. Embedding is
``cluster.reembed.passes``'s, the switch ``cluster.store.index.model_registry``'. ``heimdex reembed`` is the same in
whichever Ray there is.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from cluster.contracts.counts import counted
from cluster.contracts.durations import duration_text
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.search import Retriever
from cluster.runtime.ray_driver import Say
from cluster.search.active_models import ModelName
from cluster.settings import Settings
from cluster.store.index.embeddings import EVERY_ID, SceneVectors
from cluster.store.index.model_registry import IndexedModel, Models, SearchModels, changing_alone, keys_of
from cluster.store.opensearch.client import open_client
from cluster.store.opensearch.rebuild import SearchIndexes, throttled_progress
from cluster.store.opensearch.sync import IndexFollower
from cluster.store.postgres.connections import Pool, open_pool

if TYPE_CHECKING:  # both bring Ray along, which is not to be imported before it is known which one
    from cluster.reembed.passes import Pass, Reembedding

SAY_EVERY_S = 5.0
PAGE = 1000
SINGLE_ACTOR_THRESHOLD = 1000
"""Scenes that are left to one actor that stays: each pass waits until models have been loaded."""
FEW = 32
"""Scenes at most that should be embedded while no worker may write any."""
STATEMENT_TIMEOUT_S = 3600.0
"""Counting millions of scenes takes its time."""

OpenRay = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class ReembedRequest:
    """Models to embed by; without any, by those that are active. ``allow_missing``: switch in spite of bad scenes."""

    models: dict[Retriever, ModelName] = field(default_factory=dict)
    allow_missing: bool = False


@dataclass(frozen=True)
class Outcome:
    """Outcome of a request: how many scenes were embedded, why others were not, and which models became active.

    ``lacking``: how many scenes still have no vector of the models.
    """

    embedded: int
    failures: dict[UUID, str]
    lacking: int
    switched: Models


def reembed(settings: Settings, url: str, request: ReembedRequest, open_ray: OpenRay, say: Say) -> Outcome:
    """Embed what lacks vectors of the models that are wished for, and search by them once nothing does.

    A Ray is opened if there is anything to embed. Whenever it is interrupted, all that was embedded stays, and the same
    request goes on from there.

    Raises:
        ConfigurationError: a model cannot be used, or another re-embedding is under way.
        DatabaseUnavailable, NodeLost: something died.
    """
    with (
        changing_alone(url),
        open_pool(url, max_size=4, name="heimdex-reembed-command", statement_timeout_s=STATEMENT_TIMEOUT_S) as pool,
    ):
        models = SearchModels(pool)
        wanted = _wanted(settings, models, request, say)
        active = {by: model.key for by, model in models.active().items()}
        new = {by: model for by, model in wanted.items() if active.get(by) != model.key}
        for by, model in new.items():
            models.begin(by, model)
        keys = {by: model.key for by, model in new.items()}
        filling = _Filling(SceneVectors(pool, {by: model.key for by, model in wanted.items()}), say)
        index = _Index(settings, url, pool, {**models.active(), **new}, say)
        if filling.vectors.count_lacking() == 0:
            index.prepare()
            if not keys or models.switch(keys) == 0:
                index.follow()
                return Outcome(0, {}, 0, new)
        with open_ray():
            from cluster.reembed.passes import ActorPoolSpec, Reembedding

            filling.work(Reembedding(url, settings.resolved_scenes_url, wanted, ActorPoolSpec.free(settings)))
            if request.allow_missing or not filling.failures:
                index.prepare()
            lacking = filling.switch(models, keys, request.allow_missing)
        index.follow()
        return Outcome(filling.embedded, filling.failures, lacking, new if not lacking or request.allow_missing else {})


class _Index:
    """The engine's index for the models that searches switch to; nothing where Postgres finds the scenes."""

    def __init__(self, settings: Settings, url: str, pool: Pool, models: Models, say: Say) -> None:
        self._say = say
        self._indexes: SearchIndexes | None = None
        if settings.search_engine is not None:
            self._models = keys_of(models)
            client = open_client(settings.search_engine)
            self._follower = IndexFollower(pool, client)
            self._indexes = SearchIndexes(pool, url, client, settings.search_engine)

    def prepare(self) -> None:
        """Have it built of the vectors that there are by now; whatever is written later, it follows."""
        if self._indexes is not None:
            self._indexes.ensure(self._models, throttled_progress(self._say))

    def follow(self) -> None:
        """Bring it in line with what was written last, also where no cluster is up that would."""
        if self._indexes is not None:
            self._follower.follow_due()


class _Filling:
    """A re-embedding under way: what was embedded, what failed, and how fast it goes."""

    def __init__(self, vectors: SceneVectors, say: Say) -> None:
        self.vectors = vectors
        self.embedded = 0
        self.failures: dict[UUID, str] = {}
        self._say = say

    def work(self, reembedding: "Reembedding") -> None:
        """Pass over all scenes until no more are lacking than one actor embeds while others would be loading."""
        self._reembedding = reembedding
        before, lacking = None, self.vectors.count_lacking()
        while lacking > len(self.failures) and (before is None or SINGLE_ACTOR_THRESHOLD < lacking < before):
            self.failures = {}  # they are tried again
            self._say(f"{counted(lacking, 'scene')} to embed; the models are being loaded")
            pace = _Pace(lacking, self._say)
            for done in reembedding.run(lacking):
                self._note(done)
                pace.tell(done.scenes)
            before, lacking = lacking, self.vectors.count_lacking()

    def switch(self, models: SearchModels, keys: dict[Retriever, str], allow_missing: bool) -> int:
        """Switch, once what other processes write meanwhile is embedded too; returns how many scenes are lacking."""
        if not keys:
            if self.vectors.count_lacking() > len(self.failures):
                self._reembedding.make_ready()
                self._rest()
            return self.vectors.count_lacking()
        lacking = models.switch(keys)
        if not lacking or (lacking <= len(self.failures) and not allow_missing):
            return lacking
        self._reembedding.make_ready()
        before, came = None, self._rest()
        while came > FEW and (before is None or came < before / 2):
            before, came = came, self._rest()
        # At last writes wait until the few scenes that came since then are embedded: else this need never end.
        return models.switch(keys, self._rest, allow_missing=allow_missing)

    def _rest(self) -> int:
        """Embed what is lacking by now and did not fail; returns how many scenes."""
        lacking = (scene for scene in self.vectors.lacking(EVERY_ID, PAGE) if scene.scene_id not in self.failures)
        before = self.embedded
        for done in self._reembedding.run_alone(lacking):
            self._note(done)
        return self.embedded - before

    def _note(self, done: "Pass") -> None:
        self.embedded += done.scenes - len(done.failures)
        self.failures |= {failure.scene_id: failure.reason for failure in done.failures}


class _Pace:
    """Says now and then how far it is, how fast, and how long it will take."""

    def __init__(self, scenes: int, say: Say) -> None:
        self._scenes = scenes
        self._say = say
        self._done = self._timed = 0
        self._began_s: float | None = None
        self._said_s = 0.0

    def tell(self, scenes: int) -> None:
        """So many more are done. Until the first ones are, models were being loaded: that is no part of the pace."""
        now_s = time.monotonic()
        self._done += scenes
        if self._began_s is None:
            self._began_s = self._said_s = now_s
            return
        self._timed += scenes
        if now_s - self._said_s < SAY_EVERY_S:
            return
        self._said_s = now_s
        pace = self._timed / (now_s - self._began_s)
        left = duration_text(max(0, self._scenes - self._done) / pace)
        self._say(f"{self._done} of {counted(self._scenes, 'scene')}, {pace:.0f} a second, about {left} left")


def _wanted(settings: Settings, models: SearchModels, request: ReembedRequest, say: Say) -> Models:
    """The models that are asked for, by their keys; without a request the active ones."""
    active, configured = models.active(), configured_models(settings)
    if request.models:
        say("looking at the models")
        for by in request.models.keys() - active.keys():
            # Nothing has searched since models are kept account of: without this there would be no way back.
            try:
                models.adopt(by, identified(settings, by, configured[by]))
            except ConfigurationError as error:
                say(f"there will be no way back to the {by} model of before: {error}")
        return {by: identified(settings, by, model) for by, model in request.models.items()}
    for by in configured.keys() - active.keys():
        models.adopt(by, identified(settings, by, configured[by]))
    return models.active()


def configured_models(settings: Settings) -> dict[Retriever, ModelName]:
    """The models that the settings name."""
    return {
        Retriever.PICTURE: ModelName(*settings.clip_on(), chosen=settings.clip_is_chosen),
        Retriever.MEANING: ModelName(settings.text_model),
    }


def identified(settings: Settings, by: Retriever, model: ModelName) -> IndexedModel:
    """A model with the key that its vectors are filed under, which takes loading it.

    Raises:
        ConfigurationError: it cannot be loaded, or it wants larger key frames.
    """
    # Here and not above: torch takes seconds to import.
    from cluster.models.text import load_text_model
    from cluster.models.vision import load_vision_model

    name = str(Path(model.name).absolute()) if Path(model.name).is_dir() else model.name  # read by other processes
    if by is Retriever.MEANING:
        text = load_text_model(name, "cpu", key=model.key)
        return IndexedModel(text.key, name, None, text.dimensions)
    vision = load_vision_model(name, model.pretrained, "cpu")
    if vision.image_size_px > settings.key_frame_px:
        raise ConfigurationError(
            f"vision model {vision.name} reads pictures of {vision.image_size_px} px, key frames are kept with "
            f"{settings.key_frame_px} (HEIMDEX_KEY_FRAME_PX): choose a model that reads smaller ones"
        )
    return IndexedModel(vision.key, name, model.pretrained, vision.dimensions)
