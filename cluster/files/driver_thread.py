"""What a storage driver reads, handed over by a thread of its own: a driver that hangs is left behind.

A driver's call cannot be interrupted. So the fetch waits for it beside its clock, and goes when its time is over or it
is stopped; the thread ends with the driver's next answer.
"""

import math
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from cluster.files.deadline import LOOK_S, Deadline

Part = TypeVar("Part")


def read_beside(parts: Callable[[], Iterator[Part]], deadline: Deadline) -> Iterator[Part]:
    """The parts of ``parts()``, each made in another thread. Raises what it raises, else as ``deadline`` does."""
    reader = _Reader(parts)
    try:
        while not isinstance(part := deadline.wait_for(reader.next_part, math.inf), _End):
            yield part
        if part.error is not None:
            raise part.error
    finally:
        reader.left.set()


class _End:
    """Nothing more comes; ``error``: because the driver failed."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error


class _Reader(Generic[Part]):
    """The thread, which is at most two parts ahead. ``left``: set when nothing more is taken."""

    def __init__(self, parts: Callable[[], Iterator[Part]]) -> None:
        self.left = threading.Event()
        self._parts = parts
        self._made: queue.Queue[Part | _End] = queue.Queue(maxsize=1)
        threading.Thread(target=self._read, daemon=True, name="driver").start()

    def next_part(self, wait_s: float) -> "Part | _End":
        """Raises ``TimeoutError`` when none has come within ``wait_s``."""
        try:
            return self._made.get(timeout=wait_s)
        except queue.Empty:
            raise TimeoutError from None

    def _read(self) -> None:
        error: Exception | None = None
        try:
            for part in self._parts():
                self._hand(part)
                if self.left.is_set():
                    return
        except Exception as raised:
            error = raised
        self._hand(_End(error))

    def _hand(self, part: "Part | _End") -> None:
        while not self.left.is_set():
            try:
                self._made.put(part, timeout=LOOK_S)
            except queue.Full:
                continue
            return
