"""How a decoder's answers are written as bytes, and how such bytes of a hostile sender are read.

Owns which values there are: None, numbers, text, bytes, tuples and lists of these, the dataclasses that the reader
names, whose fields are of their types and finite, and arrays of pictures and sound. Nothing refers to anything else in
an answer, and each size is held against the bytes that came before memory is taken for it, so that an answer takes
about as much memory as it has bytes.
"""

import math
import struct
from collections.abc import Callable, Collection
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

MAX_VALUES = 2**17
"""In one answer. A block of scenes has some 300; a file whose clock jumps 30,000 times fits."""
MAX_TEXT_BYTES = 2**20
"""Of all texts of an answer together: as characters they may take four times as much."""
MAX_DEPTH = 10
ARRAYS: dict[bytes, tuple["np.dtype[Any]", int]] = {b"u": (np.dtype(np.uint8), 3), b"s": (np.dtype(np.int16), 1)}
"""Types and dimensions of arrays, by their tag: pictures in three dimensions, sound in one."""

_INTEGER, _FLOAT, _COUNT, _LENGTH = struct.Struct("=q"), struct.Struct("=d"), struct.Struct("=I"), struct.Struct("=Q")
_CONSTANTS = {b"N": None, b"T": True, b"F": False}

Packed = list[bytes | memoryview]


class Unreadable(Exception):
    """The bytes are no answer; the text says why."""


def packed(value: object) -> Packed:
    """The value as bytes, in pieces. Raises ValueError when it is nothing that an answer may be."""
    pieces: Packed = []
    _pack(value, pieces, MAX_DEPTH)
    return pieces


def _pack(value: Any, pieces: Packed, depth: int) -> None:
    if depth == 0:
        raise ValueError("an answer is nested too deeply")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        _pack_array(value, pieces)
    elif isinstance(value, tuple | list):
        pieces += [b"(" if isinstance(value, tuple) else b"[", _COUNT.pack(len(value))]
        for each in value:
            _pack(each, pieces, depth - 1)
    elif is_dataclass(value) and not isinstance(value, type):
        name = type(value).__name__.encode()
        pieces += [b"D", _COUNT.pack(len(name)), name]
        for field in fields(value):
            _pack(getattr(value, field.name), pieces, depth - 1)
    else:
        _pack_plain(value, pieces)


def _pack_plain(value: object, pieces: Packed) -> None:
    if value is None or isinstance(value, bool):
        pieces.append({None: b"N", True: b"T", False: b"F"}[value])
    elif isinstance(value, int):
        pieces += [b"i", _INTEGER.pack(value)]
    elif isinstance(value, float):
        pieces += [b"f", _FLOAT.pack(value)]
    elif isinstance(value, str):
        text = value.encode(errors="surrogatepass")
        pieces += [b"t", _COUNT.pack(len(text)), text]
    elif isinstance(value, bytes):
        pieces += [b"b", _LENGTH.pack(len(value)), value]
    else:
        raise ValueError(f"an answer holds no {type(value).__name__}")


def _pack_array(array: NDArray[Any], pieces: Packed) -> None:
    for tag, kind in ARRAYS.items():
        if (array.dtype, array.ndim) == kind:
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            pieces += [tag, *map(_COUNT.pack, array.shape), flat.data]
            return
    raise ValueError(f"an answer holds no array of {array.ndim} dimensions of {array.dtype}")


def unpacked(message: bytearray, types: Collection[type] = ()) -> Any:
    """The value that ``message`` encodes; of dataclasses only ``types``. Raises Unreadable."""
    reader = _Reader(message, types)
    value = reader.value(MAX_DEPTH)
    if reader.left:
        raise Unreadable(f"{reader.left} bytes follow it")
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _fits(value: object, hint: Any) -> bool:
    """Whether the value has the type of a dataclass's field, and is finite where it is a number."""
    if isinstance(hint, UnionType):
        return any(_fits(value, each) for each in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(each, get_args(hint)[0]) for each in value)
    if hint in (int, float):
        numbers = (int,) if hint is int else (int, float)
        return isinstance(value, numbers) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, NoneType if hint is None else get_origin(hint) or hint)


class _Reader:
    """A place in a message, and how much of its bounds is left."""

    def __init__(self, message: bytearray, types: Collection[type]) -> None:
        self._message = memoryview(message)
        self._at = 0
        self._types = {kind.__name__: kind for kind in types}
        self._values_left = MAX_VALUES
        self._text_left = MAX_TEXT_BYTES
        self._by_tag: dict[bytes, Callable[[int], Any]] = {
            b"i": lambda _: _INTEGER.unpack(self._take(_INTEGER.size))[0],
            b"f": lambda _: _FLOAT.unpack(self._take(_FLOAT.size))[0],
            b"t": lambda _: self._text(),
            b"b": lambda _: bytes(self._take(_LENGTH.unpack(self._take(_LENGTH.size))[0])),
            b"(": lambda depth: tuple(self._items(depth)),
            b"[": self._items,
            b"D": self._instance,
        }

    @property
    def left(self) -> int:
        """Bytes that have not been read."""
        return len(self._message) - self._at

    def value(self, depth: int) -> Any:
        """The next value, with at most ``depth`` levels."""
        self._values_left -= 1
        if depth == 0 or self._values_left < 0:
            raise Unreadable("it has too many values or levels")
        tag = bytes(self._take(1))
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        if tag in ARRAYS:
            return self._array(*ARRAYS[tag])
        if tag not in self._by_tag:
            raise Unreadable("it has a value of an unknown kind")
        return self._by_tag[tag](depth)

    def _take(self, size: int) -> memoryview:
        if size > self.left:
            raise Unreadable(f"it breaks off: {size} bytes are announced and {self.left} follow")
        self._at += size
        return self._message[self._at - size : self._at]

    def _count(self) -> int:
        return int(_COUNT.unpack(self._take(_COUNT.size))[0])

    def _text(self) -> str:
        size = self._count()
        self._text_left -= size
        if self._text_left < 0:
            raise Unreadable("it has too much text")
        try:
            return str(self._take(size), "utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise Unreadable("it has text that is no UTF-8") from None

    def _items(self, depth: int) -> list[Any]:
        return [self.value(depth - 1) for _ in range(self._count())]

    def _instance(self, depth: int) -> Any:
        kind = self._types.get(self._text())
        if kind is None:
            raise Unreadable("it has an object that is not expected")
        hints = _hints(kind)
        values = {field.name: self.value(depth - 1) for field in fields(kind)}
        wrong = next((name for name, value in values.items() if not _fits(value, hints[name])), None)
        if wrong is not None:
            raise Unreadable(f"its {kind.__name__} has an impossible {wrong}")
        return kind(**values)

    def _array(self, kind: "np.dtype[Any]", dimensions: int) -> NDArray[Any]:
        shape = [self._count() for _ in range(dimensions)]
        content = self._take(math.prod(shape) * kind.itemsize)
        if not content:
            return np.empty([0] * dimensions, kind)
        array = np.empty(shape, kind)
        array.reshape(-1).view(np.uint8)[:] = np.frombuffer(content, np.uint8)
        return array
