"""The model stages on an NVIDIA GPU, without Ray: the same results as on the CPU. Run with ``pytest tests/gpu``."""

import av
import jiwer
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from actors.stages.media_reader import MediaReader
from actors.stages.transcriber import Transcriber
from cluster.contracts.media import LocalVideo, MediaLimits
from cluster.demo import clips
from cluster.models.vision import load_vision_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU on this machine"),
]

LIMITS = MediaLimits(max_duration_s=600, max_pixels=1920 * 1080, max_fps=60, max_streams=8, max_bytes=10**9)


def test_the_gpu_embeds_pictures_as_the_cpu_does() -> None:
    pictures = _pictures(32)
    on_cpu = load_vision_model("bundled", None, "cpu").encode_images(pictures)
    on_gpu = load_vision_model("bundled", None, "cuda").encode_images(pictures)
    assert (on_cpu * on_gpu).sum(axis=1).min() >= 0.999


def test_the_gpu_hears_what_the_cpu_hears() -> None:
    reader = MediaReader(LIMITS)
    video = LocalVideo(clips()[0], clips()[0].stat().st_size, temporary=False)
    windows = list(reader.read_speech(video, reader.probe(video)))
    on_cpu = Transcriber("bundled", "cpu", "int8", threads=2).transcribe(windows, "en")
    on_gpu = Transcriber("bundled", "cuda", "float16", threads=2).transcribe(windows, "en")
    assert jiwer.wer(_text(on_cpu), _text(on_gpu)) <= 0.02


def _text(transcript) -> str:
    return " ".join(segment.text for segment in transcript.segments)


def _pictures(count: int) -> list[NDArray[np.uint8]]:
    with av.open(str(clips()[0])) as container:
        frames = container.decode(video=0)
        return [np.asarray(next(frames).to_ndarray(format="rgb24"), dtype=np.uint8) for _ in range(count)]
