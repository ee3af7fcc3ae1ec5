"""Embeds scenes that are there already, in one process: holds the models, reads key frames, writes vectors.

No video is decoded: the picture of a scene is its key frame, its text what is stored. No Ray: which scenes, and how
many work on them, is ``cluster.reembed.passes``'s.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from actors.workers.configs import KEY_FRAMES_PER_BATCH
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.search import Retriever
from cluster.contracts.uris import shown
from cluster.files.scene_pictures import ScenePictures
from cluster.models.read_ahead import read_ahead
from cluster.search.query_picture import read_whole_picture
from cluster.security.redaction import redacted
from cluster.store.index.embeddings import LackingScene, SceneVector, SceneVectors
from cluster.store.index.model_registry import IndexedModel
from cluster.store.index.vector_tables import flaw_of
from cluster.store.postgres.connections import open_pool

FETCHERS, WRITERS = 8, 2
"""Threads: a key frame may come from far away, and a vector's way into the index takes a while."""

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Work:
    """What is to be made, by which models, and on what: it travels to those who do it."""

    database_url: str = field(repr=False)
    scenes_url: str = field(repr=False)
    models: Mapping[Retriever, IndexedModel]
    device: str
    threads: int

    @property
    def keys(self) -> dict[Retriever, str]:
        """What the vectors are filed under."""
        return {by: model.key for by, model in self.models.items()}

    @property
    def batch_size(self) -> int:
        """Scenes that the models compute at once."""
        return KEY_FRAMES_PER_BATCH["cuda" if self.device.startswith("cuda") else "cpu"]


@dataclass(frozen=True)
class Failure:
    """A scene that cannot be embedded, and why."""

    scene_id: UUID
    reason: str


class Reembedder:
    """Holds the models.

    Raises:
        ConfigurationError: one cannot be loaded here, or is another one than elsewhere.
    """

    def __init__(self, work: Work) -> None:
        # Here and not above: torch takes seconds to import, which a process that merely starts this need not wait for.
        from cluster.models.text import load_text_model
        from cluster.models.vision import load_vision_model

        self._batch_size = work.batch_size
        self._key_frames = ScenePictures(work.scenes_url)
        self._models = work.models
        pictures, meanings = work.models.get(Retriever.PICTURE), work.models.get(Retriever.MEANING)
        self._vision = (
            None
            if pictures is None
            else load_vision_model(pictures.name, pictures.pretrained, work.device, work.threads)
        )
        self._text = (
            None if meanings is None else load_text_model(meanings.name, work.device, work.threads, meanings.key)
        )
        for wanted, loaded in ((pictures, self._vision), (meanings, self._text)):
            if wanted is not None and loaded is not None and wanted.key != loaded.key:
                raise ConfigurationError(
                    f"the model {wanted.name} is {loaded.key} on one machine and {wanted.key} on another: bring the "
                    "same files to all"
                )
        self._vectors = SceneVectors(open_pool(work.database_url, max_size=WRITERS, name="heimdex-reembed"), work.keys)
        self._fetchers = ThreadPoolExecutor(FETCHERS)
        self._writers = ThreadPoolExecutor(WRITERS)

    def embed(self, scenes: Sequence[LackingScene]) -> list[Failure]:
        """Embed what each of the scenes lacks and write it, batch by batch; returns those of which it failed.

        Raises:
            DatabaseUnavailable: Postgres is away.
        """
        failures: list[Failure] = []
        writing = [*self._embed_meanings(scenes, failures), *self._embed_pictures(scenes, failures)]
        for written in writing:
            written.result()
        return failures

    def _embed_meanings(self, scenes: Sequence[LackingScene], failures: list[Failure]) -> Iterator["Future[int]"]:
        said = [(scene, scene.text) for scene in scenes if scene.text is not None]
        if self._text is not None and said:
            embeddings = self._text.encode([text for _, text in said])
            yield self._write(Retriever.MEANING, [scene for scene, _ in said], embeddings, failures)

    def _embed_pictures(self, scenes: Sequence[LackingScene], failures: list[Failure]) -> Iterator["Future[int]"]:
        if self._vision is None:
            return
        with_picture = [scene for scene in scenes if scene.key_frame_url is not None]
        starts = range(0, len(with_picture), self._batch_size)
        fetched = map(self._fetch, (with_picture[start : start + self._batch_size] for start in starts))
        shown: deque[list[LackingScene]] = deque()

        def batches() -> Iterator[list[Picture]]:
            for batch in read_ahead(fetched):
                failures.extend(found for found in batch if isinstance(found, Failure))
                good = [found for found in batch if not isinstance(found, Failure)]
                if good:
                    shown.append([scene for scene, _ in good])
                    yield [picture for _, picture in good]

        for embeddings in self._vision.encode_batches(batches()):
            yield self._write(Retriever.PICTURE, shown.popleft(), embeddings, failures)

    def _fetch(self, scenes: Sequence[LackingScene]) -> list[tuple[LackingScene, Picture] | Failure]:
        return list(self._fetchers.map(self._with_key_frame, scenes))

    def _write(
        self, by: Retriever, scenes: Sequence[LackingScene], embeddings: NDArray[np.float32], failures: list[Failure]
    ) -> "Future[int]":
        made = []
        for scene, embedding in zip(scenes, embeddings, strict=True):
            flaw = flaw_of(embedding, self._models[by].dimensions)
            if flaw is None:
                made.append(SceneVector(scene.scene_id, scene.made, embedding))
            else:
                failures.append(Failure(scene.scene_id, f"the {by} model made {flaw} of it"))
        return self._writers.submit(self._vectors.write, by, made)

    def _with_key_frame(self, scene: LackingScene) -> tuple[LackingScene, Picture] | Failure:
        try:
            return scene, read_key_frame(self._key_frames, scene)
        except Exception as error:  # there are many ways in which a file is broken
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            return Failure(scene.scene_id, redacted(f"{shown(scene.key_frame_url or '')}: {reason}"))


def read_key_frame(pictures: ScenePictures, scene: LackingScene) -> Picture:
    """The scene's key frame, RGB: below the scenes' URL, whatever address is stored."""
    return read_whole_picture(pictures.read(scene.key_frame_url or "", scene.video_id))
