"""Who asks in the API tests, with which tokens, and encoders for where models do not matter."""

import io
import subprocess
import zlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from cluster.search.active_models import ModelName
from cluster.search.query_models import ModelLoaders, QueryModels, VisionEncoder
from cluster.store.postgres.connections import Pool
from serve_app.development_tokens import mint_token
from tests.support.vector_lengths import EMBEDDING_DIM, MEANING_DIM

SECRET = "a secret of the tests, long enough for HS256"
ADMIN = UUID("aaaaaaaa-0000-4000-8000-000000000001")
ALICE = UUID("aaaaaaaa-0000-4000-8000-000000000002")
BOB = UUID("aaaaaaaa-0000-4000-8000-000000000003")

Heimdex = Callable[..., "subprocess.CompletedProcess[bytes]"]
"""Runs the command of that name with some arguments."""
ApiMaker = Callable[..., TestClient]
"""Makes a client; keyword arguments replace the application's parts."""


class WordVectors:
    """A vision model whose texts are near each other by the words they share, and whose pictures are words: their
    strongest colour's. Nothing is learned.
    """

    key = "word-vectors@1"

    def __init__(self, dimensions: int = EMBEDDING_DIM) -> None:
        self.dimensions = dimensions

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return word_vectors(texts, self.dimensions)

    def encode_images(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return self.encode_texts([("red", "green", "blue")[picture.mean(axis=(0, 1)).argmax()] for picture in pixels])


class WordMeanings:
    """A text model of the same kind. Words of ``SYNONYMS`` mean the same."""

    key = "word-meanings@1"

    def __init__(self, dimensions: int = MEANING_DIM) -> None:
        self.dimensions = dimensions

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        meant = [" ".join(SYNONYMS.get(word, word) for word in text.lower().split()) for text in texts]
        return word_vectors(meant, self.dimensions)

    encode_queries = encode


def query_models(pool: Pool, vision: VisionEncoder | None = None, searching: Pool | None = None) -> QueryModels:
    """Those two, or another for pictures, as the models that read queries; they need not be loaded."""
    pictures, meanings = vision or WordVectors(), WordMeanings()
    loaders = ModelLoaders(ModelName(pictures.key), lambda _: pictures, ModelName(meanings.key), lambda _: meanings)
    return QueryModels(pool, loaders, searching=searching)


def make_picture(colour: tuple[int, int, int] = (250, 10, 10), kind: str = "PNG") -> bytes:
    """A file with a picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(file, kind)
    return file.getvalue()


SYNONYMS = {"vessel": "boat", "ship": "boat", "ocean": "sea"}


def word_vectors(texts: Sequence[str], width: int) -> NDArray[np.float32]:
    """A row per text, L2-normalised: the sum of a random direction for each of its words."""
    rows = [
        sum(
            (np.random.default_rng(zlib.crc32(word.encode())).normal(size=width) for word in text.lower().split()),
            start=np.full(width, 1e-3),
        )
        for text in texts
    ]
    matrix = np.asarray(rows, dtype=np.float32)
    normalised: NDArray[np.float32] = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return normalised


def headers(user_id: UUID, lifetime: timedelta = timedelta(minutes=5)) -> dict[str, str]:
    """The Authorization header of a user."""
    return {"Authorization": f"Bearer {mint_token(SECRET, user_id, lifetime)}"}
