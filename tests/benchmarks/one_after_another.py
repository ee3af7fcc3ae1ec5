"""The script that a person would write instead: the same libraries and models, one video after the other.

``python -m tests.benchmarks.one_after_another FOLDER`` loads the models, then answers each line of standard input, a
JSON array of files, by a line with what it found and what that took. Every library has the threads that it takes by
default.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import av
import open_clip
import torch
from faster_whisper import WhisperModel
from PIL import Image
from scenedetect import AdaptiveDetector, detect
from sentence_transformers import SentenceTransformer

from cluster.models.bundled import bundled_vision_directory, labels_file
from cluster.models.speech import model_directory as whisper_directory
from cluster.models.text_files import model_directory
from tests.benchmarks.answering import answer

THUMBNAIL_WIDTH_PX = 320


class Script:
    """The loaded models, and the way of a video."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._whisper = WhisperModel(str(whisper_directory("bundled")), device="cpu", compute_type="int8")
        name = f"local-dir:{bundled_vision_directory()}"
        self._clip, _, self._preprocess = open_clip.create_model_and_transforms(name)
        self._clip.eval()
        self._text_model = SentenceTransformer(str(model_directory("bundled")), device="cpu")
        self._labels = [line.strip() for line in labels_file().read_text().splitlines() if line.strip()]
        with torch.inference_mode():
            tokens = open_clip.get_tokenizer(name)([f"a photo of {label}" for label in self._labels])
            self._label_embeddings = self._clip.encode_text(tokens, normalize=True)

    def process(self, path: Path) -> dict[str, Any]:
        """Scenes with words, tags and embeddings, and their thumbnails; written beside each other, and returned."""
        spans = [(start.seconds, end.seconds) for start, end in detect(str(path), AdaptiveDetector())]
        spans = spans or [(0.0, _duration_s(path))]
        segments, _ = self._whisper.transcribe(
            str(path),
            language="en",
            beam_size=5,
            vad_filter=True,
            word_timestamps=True,
            condition_on_previous_text=False,
        )
        words = [word for segment in segments for word in segment.words or []]
        pictures = list(pictures_at(path, [(start + end) / 2 for start, end in spans]))
        embeddings = self.embed(pictures)
        scenes = []
        for number, ((start, end), picture, embedding) in enumerate(zip(spans, pictures, embeddings, strict=True)):
            picture.thumbnail((THUMBNAIL_WIDTH_PX, THUMBNAIL_WIDTH_PX))
            picture.save(self._folder / f"{path.stem}-{number:05d}.jpg", quality=80)
            said = "".join(w.word for w in words if start <= (w.start + w.end) / 2 < end).strip()
            best = int((self._label_embeddings @ embedding).argmax())
            scenes.append({"start_s": start, "end_s": end, "words": said, "tag": self._labels[best]})
        found = {"words": "".join(word.word for word in words).strip(), "scenes": scenes}
        meanings = self._text_model.encode([f"{scene['words']}\n{scene['tag']}" for scene in scenes])
        kept = found | {"embeddings": embeddings.tolist(), "meanings": meanings.tolist()}
        (self._folder / f"{path.stem}.json").write_text(json.dumps(kept))
        return found

    def embed(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """float32[n, 512], of length 1."""
        with torch.inference_mode():
            batch = torch.stack([self._preprocess(picture) for picture in pictures])
            embeddings: torch.Tensor = self._clip.encode_image(batch, normalize=True)
            return embeddings


def _duration_s(path: Path) -> float:
    with av.open(str(path)) as container:
        return (container.duration or 0) / av.time_base


def pictures_at(path: Path, times_s: Sequence[float]) -> Iterator[Image.Image]:
    """The picture that is shown at each time: from the key frame before it on."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        assert stream.time_base is not None
        for time_s in times_s:
            container.seek(int(time_s / stream.time_base), stream=stream)
            shown = None
            for frame in container.decode(stream):
                if shown is not None and frame.time is not None and frame.time > time_s:
                    break
                shown = frame
            assert shown is not None
            yield Image.fromarray(shown.to_ndarray(format="rgb24"))


def _process(script: Script, paths: Sequence[str]) -> list[dict[str, Any]]:
    return [script.process(Path(path)) for path in paths]


def main() -> None:
    """Answer until standard input ends."""
    script = Script(Path(sys.argv[1]))
    answer(partial(_process, script))


if __name__ == "__main__":
    main()
