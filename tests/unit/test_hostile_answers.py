"""Answers of a decoder that was taken over: refused, without memory that is not in their bytes."""

import math
import pickle
import random
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.workers.media_calls import ANSWERS
from cluster.contracts.errors import MalformedResult
from cluster.contracts.media import ClockShift, FilePart, MediaInfo, MediaWarning, Timeline
from cluster.decoders.answer_format import Unreadable, packed, unpacked
from cluster.decoders.config import DONE, ERROR, PART, DecoderConfig
from cluster.decoders.process import Answers, DecoderProcess

MAY_GROW_BYTES = 16 * 2**20
HUGE = 2**32 - 1


def _count(number: int) -> bytes:
    return struct.pack("=I", number)


def _void_scalar() -> bytes:
    """A pickle of a scalar of numpy's whose kind has 2 GiB."""
    kind = b"\x8c\x05numpy\x8c\x05dtype\x93\x8c\x0bV2147483647\x89\x88\x87R"
    return b"\x80\x05\x8c\x16numpy._core.multiarray\x8c\x06scalar\x93" + kind + b"\x85R."


HOSTILE = {
    "pickle with a huge memo": b"\x80\x05Nr" + struct.pack("<I", 2**26) + b".",
    "pickle of a huge scalar": _void_scalar(),
    "pickle of nothing": pickle.dumps(None),
    "bytes longer than all": b"b" + struct.pack("=Q", 2**62),
    "bytes of a gigabyte": b"b" + struct.pack("=Q", 2**30),
    "picture larger than all": b"u" + _count(HUGE) * 3 + bytes(10),
    "sound of 8 GiB": b"s" + _count(HUGE) + bytes(10),
    "many values announced": b"(" + _count(HUGE),
    "more values than are allowed": b"[" + _count(9) + (b"[" + _count(2**15) + (b"[" + _count(0)) * 2**15) * 9,
    "deep": (b"(" + _count(1)) * 100_000 + b"N",
    "much text": b"(" + _count(2) + (b"t" + _count(2**20 - 100) + b"a" * (2**20 - 100)) * 2,
    "text that is none": b"t" + _count(2) + b"\xff\xff",
    "object of another kind": b"D" + _count(10) + b"LocalVideo" + b"N" * 5,
    "object of other fields": b"D" + _count(12) + b"MediaWarning" + b"t" + _count(1) + b"a" + b"N",
    "object of no number": b"D" + _count(12) + b"SpeechWindow" + b"f" + struct.pack("=d", math.nan) + b"s" + _count(0),
    "object of a picture": b"D" + _count(12) + b"SpeechWindow" + b"f" + struct.pack("=d", 0.0) + b"t" + _count(0),
    "object that breaks off": b"D" + _count(12) + b"MediaWarning" + b"N",
    "more than a value": b"NN",
    "unknown": b"x",
    "empty": b"",
}  # fmt: skip
MAX_BYTES = 2**23


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderProcess]:
    started = DecoderProcess(DecoderConfig("tests.support.odd_decoders:load"), Answers(ANSWERS.types, MAX_BYTES, 60.0))
    started.start()
    yield started
    started.close()


def _peak_bytes() -> int:
    """The largest resident set of this process since it was last asked, where the kernel forgets it (proc(5))."""
    status = Path("/proc/self/status").read_text()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answer_is_refused_and_takes_no_memory(decoder: DecoderProcess, name: str) -> None:
    content = HOSTILE[name]
    _peak_bytes()
    before = _peak_bytes()
    with pytest.raises(MalformedResult):
        decoder.call("answer", PART, len(content), content)
    assert _peak_bytes() - before < MAY_GROW_BYTES


@pytest.mark.parametrize("kind", [ERROR, DONE, b"X"])
def test_end_of_an_answer_has_a_largest_size(decoder: DecoderProcess, kind: bytes) -> None:
    with pytest.raises(MalformedResult):
        decoder.call("answer", kind, MAX_BYTES - 1, b"")


def test_answer_of_many_values_is_refused_at_the_second(decoder: DecoderProcess) -> None:
    _peak_bytes()
    before = _peak_bytes()
    with pytest.raises(MalformedResult, match="more than one"):
        decoder.call("repeat", 200)
    assert _peak_bytes() - before < MAY_GROW_BYTES


def test_error_of_any_length_is_told(decoder: DecoderProcess) -> None:
    with pytest.raises(Exception, match=r"/a{1000}") as caught:
        decoder.call("read", "/" + "a" * 10**6)
    assert len(str(caught.value)) < 2**16


# The format


def _information() -> MediaInfo:
    width: Any = np.int64(4)
    part = FilePart(end=7, pictures=(0, 1), shifts=(ClockShift(0, 5, -1.5),))
    warnings = (MediaWarning("code", "Größe \udcff 🎬"),)
    return MediaInfo(None, np.float64(0.5), 25.0, width, 2, 90, "h264", None, 2**40, Timeline((part,)), warnings)


def test_values_are_read_as_they_were_written() -> None:
    picture, sound = np.arange(24, dtype=np.uint8).reshape(2, 4, 3), np.arange(5, dtype=np.int16)
    for array in (picture, picture[:, ::2], sound[::-1], sound[:0], picture[:0]):
        read = unpacked(bytearray(b"".join(packed(array))))
        assert (read.dtype, read.flags.writeable) == (array.dtype, True)
        assert read.tobytes() == array.tobytes()
    values: list[Any] = [None, True, False, -(2**63), 0.25, "é", b"\0", (1, [2, ()]), [], _information()]
    for value in values:
        assert unpacked(bytearray(b"".join(packed(value))), ANSWERS.types) == value
    strange: list[Any] = [{}, 2**63, {1}, np.zeros(3), np.zeros((2, 2), np.uint8), Path("/")]
    for value in strange:
        with pytest.raises((ValueError, struct.error)):
            packed(value)


def test_mutated_answer_is_read_or_refused() -> None:
    picture = np.zeros((2, 4, 3), np.uint8)
    good = b"".join(packed((_information(), picture, [1.5, b"bytes"])))
    chance = random.Random(7)
    refused = 0
    for _ in range(3000):
        message = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            message[chance.randrange(len(message))] = chance.choice([0, 1, 255, *b"NTFiftbus([D"])
        try:
            unpacked(message[: chance.choice([None, None, chance.randrange(len(message))])], ANSWERS.types)
        except Unreadable:
            refused += 1
    assert refused > 1000
