"""Channel layouts of decoded sound, read without the native abort that PyAV's own copies end in.

Owns the order, number and samples of a frame's channels. Leaves what is made of them to ``mix_down``.

PyAV 18 copies an ``AVChannelLayout`` shallowly and frees it with each copy. A custom order holds a pointer, which is
thus freed twice: the process aborts. So every copy is made to own nothing before it is dropped (``disown``).
"""

import ctypes
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.plane import AudioPlane
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from cluster.contracts.errors import ConfigurationError

Channels = NDArray[np.float32]


class ChannelOrder(IntEnum):
    """``AVChannelOrder`` of libavutil/channel_layout.h."""

    UNSPECIFIED = 0
    NATIVE = 1
    CUSTOM = 2
    AMBISONIC = 3


class _Layout(ctypes.Structure):
    """``AVChannelLayout``, whose shape is part of FFmpeg's public ABI."""

    _fields_ = (
        ("order", ctypes.c_int),
        ("channels", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("opaque", ctypes.c_void_p),
    )


_WAS_CUSTOM = 1
MOST_PLANES = 8
"""``AudioFrame.planes`` reads past the end of the list when there are more."""
MADE_FORMATS = frozenset({"u8", "u8p", "s16", "s16p", "s32", "s32p", "flt", "fltp", "dbl", "dblp"})
"""The formats that ``AudioFrame.from_ndarray`` makes (``av.audio.frame.format_dtypes``)."""
_SAMPLE_TYPES: dict[str, np.dtype[Any]] = {
    "u8": np.dtype(np.uint8),
    "s16": np.dtype(np.int16),
    "s32": np.dtype(np.int32),
    "s64": np.dtype(np.int64),
    "flt": np.dtype(np.float32),
    "dbl": np.dtype(np.float64),
}


def _native(layout: AudioLayout) -> _Layout:
    """The structure inside ``layout``, which follows the head that every Python object has."""
    return _Layout.from_address(id(layout) + object.__basicsize__)


def _check_shape() -> None:
    stereo = AudioLayout("stereo")
    size = object.__basicsize__ + ctypes.sizeof(_Layout)
    if AudioLayout.__basicsize__ == size:
        native = _native(stereo)
        if (native.order, native.channels, native.mask) == (ChannelOrder.NATIVE, 2, 0b11):
            return
    raise ConfigurationError(
        "this version of PyAV stores channel layouts in an unknown way; install the pinned version"
    )


_check_shape()


def disown(layout: AudioLayout) -> bool:
    """Make ``layout``, a copy of PyAV's, free nothing; return whether its order was a custom one.

    The order is unspecified from then on, with a mark in the mask that means nothing there.
    """
    native = _native(layout)
    if native.order != ChannelOrder.CUSTOM:
        return False
    native.order, native.mask = ChannelOrder.UNSPECIFIED, _WAS_CUSTOM
    return True


def drop_custom_order(stream: AudioStream) -> None:
    """Have ``stream``, of which nothing has been decoded, state the number of its channels in place of their order."""
    layout = stream.codec_context.layout
    if disown(layout):
        stream.codec_context.layout = f"{layout.nb_channels} channels"


def order_of(frame: AudioFrame) -> ChannelOrder:
    """In which order the channels of ``frame`` come, once ``disown`` was called for its layout."""
    native = _native(frame.layout)
    unspecified = native.order == ChannelOrder.UNSPECIFIED
    return ChannelOrder.CUSTOM if unspecified and native.mask == _WAS_CUSTOM else ChannelOrder(native.order)


def channels_of(frame: AudioFrame) -> Channels:
    """The samples of ``frame``: float32[channels, samples], full scale is 1.0.

    Planes are taken one by one, since there may be more than ``MOST_PLANES``.
    """
    planes = _planes(frame)
    return _scaled(np.stack(planes) if frame.format.is_planar else planes[0].reshape(-1, frame.layout.nb_channels).T)


def _planes(frame: AudioFrame) -> list[NDArray[Any]]:
    """The samples as views, not copies: an array per channel, or one with the channels' samples in turns."""
    kind = _SAMPLE_TYPES[frame.format.packed.name]
    count, samples = frame.layout.nb_channels, frame.samples
    if not frame.format.is_planar:
        count, samples = 1, samples * count
    return [np.frombuffer(memoryview(AudioPlane(frame, index)), kind, samples) for index in range(count)]


def is_joinable(frame: AudioFrame) -> bool:
    """Whether :func:`joined_frame` takes it: an ordinary layout in a format that PyAV makes frames of."""
    ordinary = order_of(frame) is ChannelOrder.NATIVE and frame.layout.nb_channels <= MOST_PLANES
    return ordinary and frame.format.name in MADE_FORMATS


def joined_frame(frames: Sequence[AudioFrame]) -> AudioFrame:
    """One frame with the samples of ``frames``, all of one kind, at the time of the first."""
    first = frames[0]
    samples = [np.concatenate(planes) for planes in zip(*map(_planes, frames), strict=True)]
    return _timed(AudioFrame.from_ndarray(np.stack(samples), first.format.name, first.layout.name), first)


def _scaled(samples: NDArray[Any]) -> Channels:
    kind = samples.dtype
    if kind == np.uint8:
        return (samples.astype(np.float32) - np.float32(128)) / np.float32(128)
    scale = np.float32(2.0 ** (8 * kind.itemsize - 1)) if kind.kind == "i" else np.float32(1)
    return np.asarray(samples.astype(np.float32) / scale, np.float32)


def mono_frame(samples: NDArray[np.float32], like: AudioFrame) -> AudioFrame:
    """A frame of one channel with the time and rate of ``like``."""
    return _timed(
        AudioFrame.from_ndarray(np.ascontiguousarray(samples[None], np.float32), format="fltp", layout="mono"), like
    )


def _timed(frame: AudioFrame, like: AudioFrame) -> AudioFrame:
    frame.sample_rate, frame.pts = like.sample_rate, like.pts
    if like.time_base is not None:
        frame.time_base = like.time_base
    return frame
