"""What a decoder process is made of, and how it (``child``) and who asks it (``process``) talk."""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FRAME = struct.Struct("=cQ")
"""Before each part of an answer: what it is, and its length."""
PART, DONE, ERROR = b"P", b"D", b"E"
NUMBER = struct.Struct("=q")
READY = b"+"


@dataclass(frozen=True)
class DecoderConfig:
    """Which decoders are loaded: ``module:function``, called with ``arguments``, returns :class:`Decoders`."""

    loader: str
    arguments: tuple[Any, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Decoders:
    """What a decoder process can do: its calls by name; a call that returns an iterator answers in parts.

    ``readable``: the files that a call with these arguments may read; None: none at all. ``memory_bytes`` and
    ``cpu_s``: what one call may take, where that is bound.
    """

    calls: Mapping[str, Callable[..., Any]]
    readable: Callable[..., list[Path]] | None = None
    memory_bytes: int | None = None
    cpu_s: int | None = None
    niceness: int = 0
