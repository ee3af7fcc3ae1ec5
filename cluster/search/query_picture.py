"""Pictures that come from outside (searches, key frames, thumbnails), read with care.

A picture is decoded in a process that holds no secrets and opens nothing, with bounded memory and time; at most
``AT_ONCE`` at a time in this process.
"""

import atexit
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.contracts.errors import DecoderBusy, MalformedResult, WorkerCrash
from cluster.decoders.config import DecoderConfig
from cluster.decoders.process import Answers, DecoderProcess, UnexpectedError

SIDE_PX = 1024
"""No vision model looks closer."""
AT_ONCE = 2
WAIT_S = 20.0
TIMEOUT_S = 10.0

Picture = NDArray[np.uint8]

_decoder = DecoderProcess(
    DecoderConfig("cluster.decoders.pictures:load"), Answers(max_bytes=2**28, timeout_s=TIMEOUT_S)
)
atexit.register(_decoder.close)
_turn = threading.BoundedSemaphore(AT_ONCE)


def read_picture(data: bytes) -> Picture:
    """RGB, uint8[height, width, 3], upright, at most 1024 on a side.

    Raises:
        ValueError: it is empty, no JPEG, PNG or WebP, broken, or has more than 8 million pixels; the text says which.
        DecoderBusy: too many others are being decoded.
    """
    return _read(data, SIDE_PX)


def read_whole_picture(data: bytes) -> Picture:
    """As ``read_picture``, but as large as it is."""
    return _read(data, None)


def _read(data: bytes, side_px: int | None) -> Picture:
    if not _turn.acquire(timeout=WAIT_S):
        raise DecoderBusy("too many pictures are being decoded; try again")
    try:
        decoded = _decoder.call("decode", data, side_px)
    except (WorkerCrash, MalformedResult) as error:
        raise ValueError(f"it cannot be decoded: {error}") from None
    except UnexpectedError as error:
        raise ValueError(str(error)) from None
    finally:
        _turn.release()
    return _checked(decoded)


def _checked(decoded: Any) -> Picture:
    match decoded:
        case (int(height), int(width), bytes(pixels)) if height > 0 < width and len(pixels) == height * width * 3:
            return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
    raise ValueError("it cannot be decoded: the decoder answered no picture")
