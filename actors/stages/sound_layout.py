"""Channel layouts of decoded sound, read without the native abort that PyAV's own copies end in.

Owns the order, number and samples of a frame's channels. Leaves what is made of them to ``mix_down``.

PyAV 18 copies an ``AVChannelLayout`` shallowly and frees it with each copy. A custom order holds a pointer, which is
thus freed twice: the process aborts. So every copy is made to own nothing before it is dropped (``disown``).
"""

import ctypes
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
    """Make ``layout``, a copy of PyAV's, free nothing; tell whether its order was a custom one.

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

    Planes are taken one by one: ``AudioFrame.planes`` reads past the end of the list when there are more than eight.
    """
    count, kind = frame.layout.nb_channels, _SAMPLE_TYPES[frame.format.packed.name]
    if frame.format.is_planar:
        planes = [np.frombuffer(memoryview(AudioPlane(frame, index)), kind, frame.samples) for index in range(count)]
        samples = np.stack(planes)
    else:
        samples = np.frombuffer(memoryview(AudioPlane(frame, 0)), kind, frame.samples * count).reshape(-1, count).T
    return _scaled(samples)


def _scaled(samples: NDArray[Any]) -> Channels:
    kind = samples.dtype
    if kind == np.uint8:
        return (samples.astype(np.float32) - np.float32(128)) / np.float32(128)
    scale = np.float32(2.0 ** (8 * kind.itemsize - 1)) if kind.kind == "i" else np.float32(1)
    return np.asarray(samples.astype(np.float32) / scale, np.float32)


def mono_frame(samples: NDArray[np.float32], like: AudioFrame) -> AudioFrame:
    """A frame of one channel with the time and rate of ``like``."""
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples[None], np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts = like.sample_rate, like.pts
    if like.time_base is not None:
        frame.time_base = like.time_base
    return frame
