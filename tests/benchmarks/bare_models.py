"""The least work for some videos on any cluster: the decoder and the models, and nothing around them.

``python -m tests.benchmarks.bare_models FILE...`` decodes every picture and all sound, has Silero compute where speech
is, Whisper the utterances of all files, the vision model the key frames, and the text
model what was said; prints the seconds of CPU of each as JSON, the number of key frames, and the recognised words. All
in one thread: what more threads cost is not the models' own time.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import ctranslate2
import numpy as np
from faster_whisper.vad import get_vad_model
from numpy.typing import NDArray

from actors.stages.media_reader import MediaReader
from actors.stages.recognizer import Recognizer
from actors.stages.scene_detector import SceneDetector
from actors.stages.transcriber import SoundOfVideo, Transcriber
from cluster.contracts.media import LocalVideo, MediaLimits
from cluster.contracts.results import Transcript
from cluster.models.text import load_text_model
from cluster.models.vision import load_vision_model
from cluster.models.whisper import Recognition, SpeechModel
from tests.benchmarks.rounds import timed

KEY_FRAME_PX = 288
LIMITS = MediaLimits(max_duration_s=3600, max_pixels=10**7, max_fps=240, max_streams=8, max_bytes=10**10)
SILERO_STEP = 512
SKIPPED = {"skip_loop_filter": "noref"}
"""As the cluster decodes."""


class _Recording(SpeechModel):
    """Keeps what it is asked."""

    def __init__(self, model: Any, beam_size: int) -> None:
        super().__init__(model, beam_size)
        self.asked: list[tuple[Any, str]] = []

    def recognise_features(
        self, features: ctranslate2.StorageView, language: str, prompt: str = ""
    ) -> list[Recognition]:
        self.asked.append((np.array(features), language))
        return super().recognise_features(features, language, prompt)


def bare(paths: Sequence[Path]) -> dict[str, Any]:
    """``cpu_s`` by what it goes to, ``key_frames``, and the ``words`` of each file."""
    reader = MediaReader(LIMITS)
    transcriber = Transcriber("bundled", "cpu", "int8", threads=1)
    speech = _Recording(transcriber._model._model, beam_size=5)
    transcriber._model, transcriber._recognizer = speech, Recognizer(speech)
    vision = load_vision_model("bundled", None, "cpu", threads=1)
    text = load_text_model("bundled", "cpu", threads=1)
    sounds, samples, key_frames = [], [], []
    for path in paths:
        video = LocalVideo(path=path, size_bytes=path.stat().st_size, temporary=False)
        info = reader.probe(video)
        windows = list(reader.read_speech(video, info))
        sounds.append(SoundOfVideo(windows, "en"))
        samples += [_whole_steps(window.samples.astype(np.float32) / np.float32(32768)) for window in windows]
        blocks = SceneDetector(KEY_FRAME_PX, block_size=32, limits=LIMITS, threads=1).detect(video, info)
        key_frames += [scene.key_frame for block in blocks for scene in block.scenes]
    heard = [one.transcript for one in transcriber.transcribe_all(sounds)]
    again, silero = SpeechModel(speech._model, beam_size=5), get_vad_model()
    cpu_s = {
        "pictures": _cpu_s(lambda: [_decode(path, "video", SKIPPED) for path in paths]),
        "sound": _cpu_s(lambda: [_decode(path, "audio", {}) for path in paths]),
        "Silero": _cpu_s(lambda: [silero(sound) for sound in samples]),
        "Whisper": _cpu_s(lambda: list(_heard(again, speech.asked))),
        "CLIP": _cpu_s(lambda: vision.encode_images(key_frames)),
        "MiniLM": _cpu_s(lambda: text.encode(_spoken_in(heard, len(key_frames)))),
    }
    words = ["".join(word.text for word in one.words) if isinstance(one, Transcript) else "" for one in heard]
    return {"cpu_s": cpu_s, "key_frames": len(key_frames), "words": words}


def _heard(model: SpeechModel, asked: Sequence[tuple[Any, str]]) -> Iterator[list[Recognition]]:
    for features, language in asked:
        yield model.recognise_features(ctranslate2.StorageView.from_array(features), language)


def _spoken_in(heard: Sequence[object], scenes: int) -> list[str]:
    """All that was said, shared out over so many scenes: what the text model reads, whichever scene says it."""
    said = [word.text for one in heard if isinstance(one, Transcript) for word in one.words]
    return ["".join(said[at::scenes]) for at in range(scenes)]


def _whole_steps(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.pad(samples, (0, -len(samples) % SILERO_STEP))


def _decode(path: Path, kind: str, options: dict[str, str]) -> int:
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        stream.codec_context.thread_count = 1
        stream.codec_context.options = options
        return sum(1 for _ in container.decode(stream))


def _cpu_s(work: Callable[[], object]) -> float:
    return timed(work)[1].cpu_s


if __name__ == "__main__":
    print(json.dumps(bare([Path(name) for name in sys.argv[1:]])))
