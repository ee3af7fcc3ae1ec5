"""The HTTP application with the bundled models, in a process of its own.

``python -m tests.benchmarks.search_server URL`` says on which port of 127.0.0.1 it listens, once it does. The models
read each query; what they make of it is then replaced: the scenes are made up, and it would be near none of them.
"""

import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import uvicorn

from cluster.contracts.search import EngineAddress, Retriever, TextEncoder
from cluster.models.text import load_text_model
from cluster.models.vision import load_vision_model
from cluster.search.active_models import ModelName
from cluster.search.query_models import Embedding, ModelLoaders, Picture, QueryModels, VisionEncoder
from cluster.search.service import SearchService
from cluster.store.search.engines import index_opener
from serve_app.app import build_api
from serve_app.auth import AuthRules, TokenVerifier
from serve_app.parts import ApiParts
from serve_app.pools import open_api_pool
from tests.benchmarks.made_scenes import VectorSpace, vector_spaces

SECRET = "a secret of the benchmarks, long enough for HS256"


def bundled_models() -> tuple[VisionEncoder, TextEncoder]:
    """As a replica of the HTTP application loads them."""
    return load_vision_model("bundled", None, "cpu", threads=1), load_text_model("bundled", "cpu", threads=1)


class _SeenElsewhere:
    """The vision model, whose queries are then put among the pictures that are made up."""

    def __init__(self, model: VisionEncoder, space: VectorSpace) -> None:
        self.key, self.dimensions = model.key, model.dimensions
        self._model = model
        self._space = space

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        self._model.encode_texts(texts)
        return np.stack([self._space.asked_by(text) for text in texts])

    def encode_images(self, pixels: Sequence[Picture]) -> Embedding:
        return self._model.encode_images(pixels)


class _MeantElsewhere:
    """The text model, whose queries are then put among the meanings that are made up."""

    def __init__(self, model: TextEncoder, space: VectorSpace) -> None:
        self.key, self.dimensions = model.key, model.dimensions
        self._model = model
        self._space = space

    def encode(self, texts: Sequence[str]) -> Embedding:
        return self._model.encode(texts)

    def encode_queries(self, texts: Sequence[str]) -> Embedding:
        self._model.encode_queries(texts)
        return np.stack([self._space.asked_by(text) for text in texts])


@contextmanager
def search_server(url: str, engine: EngineAddress | None) -> Iterator[int]:
    """Such a process on the database at ``url``, and the engine beside it: its port. Gone afterwards."""
    command = [sys.executable, "-m", "tests.benchmarks.search_server", url, *([engine.url] if engine else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise SystemExit("the HTTP application has not started")
            yield int(line)
        finally:
            process.terminate()


def main(url: str, engine_url: str | None = None) -> None:
    """Serve until stopped by a signal."""
    vision, text = bundled_models()
    spaces = vector_spaces()
    seen, meant = _SeenElsewhere(vision, spaces[Retriever.PICTURE]), _MeantElsewhere(text, spaces[Retriever.MEANING])
    with open_api_pool(url) as pool, socket.create_server(("127.0.0.1", 0)) as listening:
        loaders = ModelLoaders(ModelName(seen.key), lambda _: seen, ModelName(meant.key), lambda _: meant)
        search = SearchService(
            index_opener(pool, EngineAddress(engine_url) if engine_url else None), QueryModels(pool, loaders), pool
        )
        verifier = TokenVerifier(AuthRules(SECRET, None, frozenset()))
        api = build_api(ApiParts(pool, verifier, search, allowed_schemes=frozenset({"s3"})))
        # The client stays away while the engine is asked without it.
        server = uvicorn.Server(uvicorn.Config(api, log_level="warning", timeout_keep_alive=600))
        print(listening.getsockname()[1], flush=True)
        server.run(sockets=[listening])


if __name__ == "__main__":
    main(*sys.argv[1:])
