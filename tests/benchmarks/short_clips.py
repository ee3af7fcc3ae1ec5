"""Short spoken clips: several of them packed into one of Whisper's windows, against faster-whisper file by file.

64 clips of 2 to 6 s, each a sentence of the demo's narration; once all have been read, they are read again faster, so
that no two are the same. All are compared; a round takes every other one of them, by turns. The same model, beams and
threads on every side; the sound is decoded beforehand.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import av
import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel
from numpy.typing import NDArray

from actors.stages.transcriber import SoundOfVideo, Transcriber
from cluster.contracts.media import SPEECH_RATE_HZ, SpeechWindow
from cluster.contracts.results import Transcript
from cluster.demo import bundled_whisper_directory, clips, truth
from tests.benchmarks.rounds import Comparison, Side, in_turn, timed
from tests.benchmarks.words import LEAST_CHANCE, chance_of_more_wrong, error_rate

CLIPS, CLIPS_QUICK = 64, 16
TRIED = 12
"""How many clips tell which of faster-whisper's ways is the quicker one."""
SHORTEST_S, LONGEST_S = 2.0, 6.0
FASTER = 0.06
"""By how much a sentence is read faster in every further round."""
REACH = 3.0
BEAM_SIZE = 5
THREADS = 2
BATCH_SIZE = 8

Samples = NDArray[np.float32]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Clip:
    """float32[n], mono, 16 kHz, and what is said in it."""

    samples: Samples
    words: str


Way = Callable[[Sequence[Clip]], list[str]]


def compare(rounds: int, quick: bool, say: Say) -> list[Comparison]:
    """Against whichever of faster-whisper's two ways is the quicker one."""
    chosen = list(itertools.islice(_clips(), CLIPS_QUICK if quick else CLIPS))
    model = WhisperModel(str(bundled_whisper_directory()), device="cpu", compute_type="int8", cpu_threads=THREADS)
    transcriber = Transcriber("bundled", "cpu", "int8", THREADS, BEAM_SIZE)
    ways: dict[str, Way] = {
        "heimdex": partial(_packed, transcriber),
        "transcribe, file by file": partial(_one_by_one, model),
        "BatchedInferencePipeline, file by file": partial(_pipeline, BatchedInferencePipeline(model)),
    }
    ours, *others = ways
    tried = {name: timed(partial(ways[name], chosen[:TRIED]))[1].cpu_s for name in others}
    for name, cpu_s in tried.items():
        say(f"{name}: CPU {cpu_s:.1f} s for {TRIED} clips")
    quicker = min(others, key=tried.__getitem__)
    ways[ours](chosen[:TRIED])
    halves = {name: _Halves(ways[name], chosen) for name in (ours, quicker)}
    of_ours, of_theirs = in_turn([Side(name, half.next) for name, half in halves.items()], rounds, say)
    said = [clip.words for clip in chosen]
    heard = {name: half.heard for name, half in halves.items()}
    heard["heimdex, all at once in another order"] = _among_others(transcriber, chosen)
    gate = ", ".join(f"{name}: word error rate {error_rate(said, texts):.4f}" for name, texts in heard.items())
    theirs = heard.pop(quicker)
    chance = min(chance_of_more_wrong(said, texts, theirs) for texts in heard.values())
    wrong = "more words are wrong" if chance < LEAST_CHANCE else None
    title = f"{len(chosen)} spoken clips of {SHORTEST_S:.0f} to {LONGEST_S:.0f} s"
    detail = (
        f"By the sign test over the clips, {chance:.2f} is the chance of so many worse ones, were both as good; below "
        f"{LEAST_CHANCE} the words count as worse"
    )
    return [Comparison(title, ours, quicker, "cpu", REACH, of_ours, of_theirs, gate, wrong, details=(detail,))]


class _Halves:
    """A way that is asked for every other clip, by turns; ``heard`` is the text of all once it was asked twice."""

    def __init__(self, way: Way, chosen: Sequence[Clip]) -> None:
        self._way, self._chosen = way, chosen
        self._turns = itertools.cycle([0, 1])
        self.heard = [""] * len(chosen)

    def next(self) -> None:
        first = next(self._turns)
        self.heard[first::2] = self._way(self._chosen[first::2])


def _among_others(transcriber: Transcriber, chosen: Sequence[Clip]) -> list[str]:
    """What is heard in each clip beside other neighbours."""
    order = random.Random(1).sample(range(len(chosen)), len(chosen))
    heard = dict(zip(order, _packed(transcriber, [chosen[number] for number in order]), strict=True))
    return [heard[number] for number in range(len(chosen))]


def _packed(transcriber: Transcriber, chosen: Sequence[Clip]) -> list[str]:
    windows = [SpeechWindow(0.0, (clip.samples * 32767).astype(np.int16)) for clip in chosen]
    heard = transcriber.transcribe_all([SoundOfVideo([window], "en") for window in windows])
    return [_text(video.transcript) for video in heard]


def _text(transcript: object) -> str:
    assert isinstance(transcript, Transcript)
    return " ".join(segment.text for segment in transcript.segments)


def _one_by_one(model: WhisperModel, chosen: Sequence[Clip]) -> list[str]:
    options = {"vad_filter": True, "condition_on_previous_text": False}
    return [_asked(model, clip, **options) for clip in chosen]


def _pipeline(pipeline: BatchedInferencePipeline, chosen: Sequence[Clip]) -> list[str]:
    return [_asked(pipeline, clip, batch_size=BATCH_SIZE) for clip in chosen]


def _asked(model: WhisperModel | BatchedInferencePipeline, clip: Clip, **options: object) -> str:
    segments, _ = model.transcribe(clip.samples, language="en", beam_size=BEAM_SIZE, word_timestamps=True, **options)
    return "".join(segment.text for segment in segments).strip()


def _clips() -> Iterator[Clip]:
    """Every sentence of the demo in an order by chance, over and over, each time a little faster."""
    spoken = [(clip, scene) for clip in clips() for scene in truth(clip).scenes]
    sounds = {clip: _sound(clip) for clip in clips()}
    for turn in itertools.count():
        for clip, scene in random.Random(turn).sample(spoken, len(spoken)):
            first, last = (round(time_s * SPEECH_RATE_HZ) for time_s in (scene.start_s, scene.end_s))
            samples = _faster(sounds[clip][first:last], 1 + FASTER * turn)
            if SHORTEST_S <= len(samples) / SPEECH_RATE_HZ <= LONGEST_S:
                yield Clip(samples, scene.words)


def _sound(clip: object) -> Samples:
    with av.open(str(clip)) as container:
        resampler = av.AudioResampler("flt", "mono", SPEECH_RATE_HZ)
        frames = [*container.decode(audio=0), None]
        return np.concatenate([part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)])


def narration() -> NDArray[np.int16]:
    """All that is said in the demo's clips, one after the other."""
    return (np.concatenate([_sound(clip) for clip in clips()]) * 32767).astype(np.int16)


def _faster(samples: Samples, factor: float) -> Samples:
    places = np.arange(0, len(samples) - 1, factor)
    return np.interp(places, np.arange(len(samples)), samples).astype(np.float32)
