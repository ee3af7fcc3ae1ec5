"""Who asks in the API tests, with which tokens, and a text encoder for where the pictures do not matter."""

import zlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from starlette.testclient import TestClient

from serve_app.auth import mint_token

SECRET = "a secret of the tests, long enough for HS256"
ADMIN = UUID("aaaaaaaa-0000-4000-8000-000000000001")
ALICE = UUID("aaaaaaaa-0000-4000-8000-000000000002")
BOB = UUID("aaaaaaaa-0000-4000-8000-000000000003")

ApiMaker = Callable[..., TestClient]
"""Makes a client; keyword arguments replace the application's parts."""


class WordVectors:
    """A text encoder whose texts are near each other by the words they share; nothing is learned."""

    key = "word-vectors@1"

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [
            sum(
                (np.random.default_rng(zlib.crc32(word.encode())).normal(size=512) for word in text.lower().split()),
                start=np.full(512, 1e-3),
            )
            for text in texts
        ]
        matrix = np.asarray(rows, dtype=np.float32)
        normalised: NDArray[np.float32] = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        return normalised


def headers(user_id: UUID, lifetime: timedelta = timedelta(minutes=5)) -> dict[str, str]:
    """The Authorization header of a user."""
    return {"Authorization": f"Bearer {mint_token(SECRET, user_id, lifetime)}"}
