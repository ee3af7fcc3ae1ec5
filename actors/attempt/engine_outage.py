"""Attempts wait while the search engine is away: one of them tries every so often, the others wait for it."""

import asyncio

from actors.workers.worker import StageReply
from cluster.contracts.errors import SearchUnavailable

PAUSE_S = 2.0


class EngineOutage:
    """``trouble``: what the engine's absence was said to be, None while it is there. On one event loop."""

    def __init__(self, pause_s: float = PAUSE_S) -> None:
        self.trouble: str | None = None
        self._pause_s = pause_s
        self._turn = asyncio.Lock()

    async def wait_before_retry(self, reply: StageReply) -> None:
        """Wait until it is the caller's turn to try again, or another attempt found the engine there."""
        assert reply.report.failure is not None
        self.trouble = reply.report.failure.message
        async with self._turn:
            if self.trouble is not None:
                await asyncio.sleep(self._pause_s)

    def note_answer(self) -> None:
        """The engine has answered an attempt, whatever it said."""
        self.trouble = None


def is_engine_away(reply: StageReply) -> bool:
    """Whether a worker found the search engine away."""
    failure = reply.report.failure
    return failure is not None and failure.error_type == SearchUnavailable.__name__
