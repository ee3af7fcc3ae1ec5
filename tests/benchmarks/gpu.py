"""Models of real size on an NVIDIA GPU, without Ray: the stages' own rates against the bare models'.

``python -m tests.benchmarks.gpu`` prints a report; ``--keep`` writes it to gpu.md. Weights are random and the number of
tokens is given (no hub is needed), so what is heard and seen is nonsense and only the rates count. ``--sound`` takes
speech from a .npy file (int16, mono, 16 kHz) in place of the demo's clips, where PyAV is not installed.
"""

import argparse
import json
import math
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from actors.stages import recognizer, repetition
from actors.stages.recognizer import Recognizer
from actors.stages.scene_embedder import SceneEmbedder, SceneModels, ScenesOfVideo
from actors.stages.transcriber import SoundOfVideo, Transcriber
from cluster.contracts.media import SPEECH_RATE_HZ, DetectedScene, SceneBlock, SpeechWindow
from cluster.contracts.results import Transcript
from cluster.models import whisper
from cluster.models.speech_context import LONGEST_S
from cluster.models.text import load_text_model
from cluster.models.vision import VisionModel, load_vision_model
from tests.benchmarks.random_whisper import SIZES, write_random_whisper

KEPT = Path(__file__).with_name("gpu.md")
TOKENS_PER_WINDOW = 100
"""About what is said in half a minute."""
WINDOWS = (1, 4, 16, 32)
PICTURES = (64, 256)
KEY_FRAME = (288, 512, 3)
ROUNDS = 3
VIDEOS, SCENES_PER_VIDEO = 32, 32
SPEECH_S = 1800.0
NO_TRANSCRIPT = Transcript(None, (), "none")

Samples = NDArray[np.int16]
Table = list[list[str]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sound", type=Path, help="speech as .npy: int16, mono, 16 kHz")
    parser.add_argument("--tokenizer", type=Path, help="a folder with tokenizer.json and vocabulary.txt")
    parser.add_argument("--whisper", choices=list(SIZES), default="large-v3-turbo")
    parser.add_argument("--clip", nargs="*", default=["ViT-B-32", "ViT-B-16"], help="open_clip architectures")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 3], help="Whisper workers on one GPU")
    parser.add_argument("--keep", action="store_true", help=f"write {KEPT.name}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="heimdex-gpu-") as name:
        folder = Path(name)
        parts = [_heading(options.device)]
        for architecture in options.clip:
            parts.append(_vision(folder, architecture, options.device))
            print(parts[-1], flush=True)
        write_random_whisper(folder / "whisper", SIZES[options.whisper], options.tokenizer or _bundled())
        parts.append(_speech(folder / "whisper", options.whisper, options.device, _sound(options.sound)))
        print(parts[-1], flush=True)
        parts.append(_shared(folder / "whisper", options.device, _sound(options.sound), options.workers))
        print(parts[-1], flush=True)
    report = "\n".join(parts)
    if options.keep:
        KEPT.write_text(report)


def _heading(device: str) -> str:
    card = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
    return f"# On a GPU\n\n{card}, torch {torch.__version__}. Made by `python -m tests.benchmarks.gpu --keep`.\n"


def _bundled() -> Path:
    from cluster.models.speech import model_directory

    return model_directory("bundled")


def _sound(path: Path | None) -> Samples:
    """Half an hour of speech."""
    if path is not None:
        once = np.load(path)
    else:
        from tests.benchmarks.short_clips import narration

        once = narration()
    return np.asarray(np.resize(once, round(SPEECH_S * SPEECH_RATE_HZ)), np.int16)


# Vision


def _vision(folder: Path, architecture: str, device: str) -> str:
    model = load_vision_model(str(_random_clip(folder / architecture, architecture)), None, device)
    text = load_text_model("bundled", device)
    groups = [("a street", "a beach", "a room"), ("day", "night")]
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, KEY_FRAME, np.uint8) for _ in range(SCENES_PER_VIDEO)]
    scenes = tuple(DetectedScene(n, float(n), n + 1.0, n + 0.5, picture) for n, picture in enumerate(pictures))
    videos = [ScenesOfVideo([SceneBlock(scenes)], NO_TRANSCRIPT) for _ in range(VIDEOS)]
    rows = [["pictures at once", "describe, pictures/s", "bare model, pictures/s", "share"]]
    for count in PICTURES:
        embedder = SceneEmbedder(SceneModels(model, text), groups, KEY_FRAME[0], count)
        bare = count / _median_s(_bare_vision(model, count, device))
        whole = VIDEOS * SCENES_PER_VIDEO / _median_s(lambda e=embedder: e.describe(videos))  # type: ignore[misc]
        rows.append([str(count), f"{whole:,.0f}", f"{bare:,.0f}", f"{whole / bare:.2f}"])
    return f"## {architecture}: key frames of {KEY_FRAME[1]} x {KEY_FRAME[0]}\n\n{_table(rows)}"


def _random_clip(folder: Path, architecture: str) -> Path:
    folder.mkdir()
    model = open_clip.create_model(architecture)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": open_clip.get_model_config(architecture), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def _bare_vision(model: VisionModel, count: int, device: str) -> Callable[[], Any]:
    size = model.image_size_px
    batch = torch.randn(count, 3, size, size, device=device)

    def work() -> Any:
        with torch.inference_mode(), model._half_precision():
            return model._model.encode_image(batch).float().cpu()

    return work


# Speech


class _Forced:
    """A CTranslate2 model that writes the same number of tokens for whatever it is given."""

    def __init__(self, model: Any, end_of_text: int) -> None:
        self._model = model
        self._end_of_text = end_of_text

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def generate(self, encoded: Any, prompts: Sequence[Sequence[int]], **options: Any) -> Any:
        suppressed = [*options.pop("suppress_tokens"), self._end_of_text]
        options["max_length"] = len(prompts[0]) + TOKENS_PER_WINDOW
        return self._model.generate(encoded, prompts, suppress_tokens=suppressed, **options)


class _Counted:
    """A speech model that counts the windows that it is asked for."""

    def __init__(self, model: whisper.SpeechModel) -> None:
        self._asked = model
        self.windows = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._asked, name)

    def recognise(self, stretches: Sequence[Any], context_s: float, language: str, prompt: str = "") -> Any:
        self.windows += len(stretches)
        return self._asked.recognise(stretches, context_s, language, prompt)


def _forced_transcriber(folder: Path, device: str) -> Transcriber:
    """A transcriber that has no doubts: what random weights say would all be recognised again."""
    recognizer.LOG_PROB_THRESHOLD, recognizer.LEAST_SPEECH_S = -math.inf, math.inf
    repetition.COMPRESSION_RATIO_THRESHOLD, repetition.LONGEST_WORD_S = math.inf, math.inf
    repetition.LEAST_REPEATED_WORDS = sys.maxsize
    compute_type = "float16" if device == "cuda" else "int8"
    transcriber = Transcriber(str(folder), device, compute_type, threads=4)
    loaded = transcriber._model._model
    end_of_text = loaded.hf_tokenizer.token_to_id("<|endoftext|>")
    loaded.model = _Forced(loaded.model, end_of_text)  # type: ignore[assignment]
    return transcriber


def _speech(folder: Path, name: str, device: str, sound: Samples) -> str:
    transcriber = _forced_transcriber(folder, device)
    model = _Counted(transcriber._model)
    transcriber._model = model  # type: ignore[assignment]
    transcriber._recognizer = Recognizer(model)  # type: ignore[arg-type]
    videos = [SoundOfVideo([SpeechWindow(0.0, piece)], "en") for piece in np.array_split(sound, 12)]
    rows = [["windows at once", "transcribe, x real time", "bare model, x real time of speech", "share"]]
    for count in WINDOWS:
        transcriber._utterances_per_call = count
        bare_s = _median_s(_bare_speech(transcriber, count)) / count  # a window
        model.windows = 0
        heard, whole_s = _timed(lambda: transcriber.transcribe_all(videos))
        rows.append(
            [
                str(count),
                f"{SPEECH_S / whole_s:,.0f}",
                f"{sum(video.spoken_s for video in heard) / (model.windows * bare_s):,.0f}",
                f"{model.windows * bare_s / whole_s:.2f}",
            ]
        )
    return (
        f"## Whisper of {name}'s size, {TOKENS_PER_WINDOW} tokens a window, beams of 5\n\n"
        f"{SPEECH_S / 60:.0f} minutes of speech in 12 videos; voice detection and features included.\n\n"
        f"{_table(rows)}"
    )


def _bare_speech(transcriber: Transcriber, count: int) -> Callable[[], Any]:
    """Encoding, writing and aligning, of features that are ready."""
    model = transcriber._model
    rng = np.random.default_rng(0)
    mels = model._model.feature_extractor.mel_filters.shape[0]
    made = rng.standard_normal((count, mels, round(LONGEST_S * whisper.FRAMES_PER_S)), np.float32)
    on_device = torch.from_numpy(made).to(model._model.model.device)
    return lambda: model.recognise_features(ctranslate2.StorageView.from_array(on_device), "en")


def _shared(folder: Path, device: str, sound: Samples, workers: Sequence[int]) -> str:
    """Several workers on one GPU, each with an equal share of the videos."""
    rows = [["Whisper workers on the GPU", "x real time together"]]
    context = multiprocessing.get_context("spawn")
    for count in workers:
        ready, begin = context.Barrier(count + 1), context.Barrier(count + 1)
        arguments = (folder, device, sound, ready, begin)
        processes = [context.Process(target=_work_beside, args=arguments) for _ in range(count)]
        for process in processes:
            process.start()
        ready.wait()
        began_s = time.monotonic()
        begin.wait()
        for process in processes:
            process.join()
        seconds = time.monotonic() - began_s
        rows.append([str(count), f"{count * SPEECH_S / seconds:,.0f}"])
    return f"## Workers that share a GPU\n\n{_table(rows)}"


def _work_beside(folder: Path, device: str, sound: Samples, ready: Any, begin: Any) -> None:
    transcriber = _forced_transcriber(folder, device)
    videos = [SoundOfVideo([SpeechWindow(0.0, piece)], "en") for piece in np.array_split(sound, 12)]
    transcriber.transcribe_all(videos[:1])
    ready.wait()
    begin.wait()
    transcriber.transcribe_all(videos)


# Timing


def _median_s(work: Callable[[], Any]) -> float:
    work()
    return statistics.median(_timed(work)[1] for _ in range(ROUNDS))


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began_s = time.monotonic()
    made = work()
    return made, time.monotonic() - began_s


def _table(rows: Table) -> str:
    head, *body = rows
    lines = [head, ["---:"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    main()
