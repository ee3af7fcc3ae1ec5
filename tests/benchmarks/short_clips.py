"""Short spoken clips: utterances of like length in one call, against faster-whisper file by file.

64 clips of 2 to 6 s, each a sentence of the demo's narration; once all have been read, they are read again faster, so
that no two are the same. Then the real voices of 2 to 6 s, where they are beside this repository: their reference is
what a larger Whisper recognises. All are compared; a round takes every other one of them, by turns. The same model,
beams and threads on every side; the sound is decoded beforehand.
"""

import csv
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel
from numpy.typing import NDArray

from actors.stages.transcriber import SoundOfVideo, Transcriber
from cluster.contracts.media import SPEECH_RATE_HZ, SpeechWindow
from cluster.contracts.results import Transcript
from cluster.demo import clips, truth
from cluster.models.speech import model_directory
from tests.benchmarks.rounds import Comparison, Side, in_turn, timed
from tests.benchmarks.words import LEAST_CHANCE, chance_of_more_wrong, error_rate

CLIPS, CLIPS_QUICK = 64, 16
TRIED = 12
"""Number of clips that show which of faster-whisper's ways is the quicker one."""
SHORTEST_S, LONGEST_S = 2.0, 6.0
FASTER = 0.06
"""By how much a sentence is read faster in every further round."""
REACH = 3.0
BEAM_SIZE = 5
THREADS = 2
BATCH_SIZE = 8
MOST_WORSE = 0.005
REAL_VOICES = Path(__file__).parents[3] / "shared" / "media" / "speech"

Samples = NDArray[np.float32]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Clip:
    """float32[n], mono, 16 kHz, and what is said in it."""

    samples: Samples
    words: str


Way = Callable[[Sequence[Clip]], list[str]]


def compare(rounds: int, quick: bool, say: Say) -> list[Comparison]:
    """Synthetic voices, and real ones where they are."""
    count = CLIPS_QUICK if quick else CLIPS
    made = list(itertools.islice(_clips(), count))
    done = [_compare(f"{len(made)} spoken clips of {SHORTEST_S:.0f} to {LONGEST_S:.0f} s", made, rounds, say)]
    real = list(itertools.islice(_real_clips(), count))
    if not real:
        say(f"real voices are not here ({REAL_VOICES}): only the demo's clips are compared")
        return done
    title = f"{len(real)} clips of real voices of {SHORTEST_S:.0f} to {LONGEST_S:.0f} s"
    return [*done, _compare(title, real, rounds, say)]


def _compare(title: str, chosen: Sequence[Clip], rounds: int, say: Say) -> Comparison:
    """Against whichever of faster-whisper's two ways is the quicker one."""
    model = WhisperModel(str(model_directory("bundled")), device="cpu", compute_type="int8", cpu_threads=THREADS)
    transcriber = Transcriber("bundled", "cpu", "int8", THREADS, BEAM_SIZE)
    ways: dict[str, Way] = {
        "heimdex": partial(_together, transcriber),
        "transcribe, file by file": partial(_one_by_one, model),
        "BatchedInferencePipeline, file by file": partial(_pipeline, BatchedInferencePipeline(model)),
    }
    ours, *others = ways
    tried = {name: timed(partial(ways[name], chosen[:TRIED]))[1].cpu_s for name in others}
    for name, cpu_s in tried.items():
        say(f"{name}: CPU {cpu_s:.1f} s for {min(TRIED, len(chosen))} clips")
    quicker = min(others, key=tried.__getitem__)
    ways[ours](chosen[:TRIED])
    halves = {name: _Halves(ways[name], chosen) for name in (ours, quicker)}
    of_ours, of_theirs = in_turn([Side(name, half.next) for name, half in halves.items()], rounds, say)
    said = [clip.words for clip in chosen]
    heard = {name: half.heard for name, half in halves.items()}
    wrong = {name: error_rate(said, texts) for name, texts in heard.items()}
    same = _among_others(transcriber, chosen) == heard[ours]
    gate = ", ".join(f"{name}: word error rate {rate:.4f}" for name, rate in wrong.items())
    gate += f"; heimdex beside other neighbours: {'the same texts' if same else 'OTHER TEXTS'}"
    say(gate)
    chance = chance_of_more_wrong(said, heard[ours], heard[quicker])
    worse = wrong[ours] > wrong[quicker] + MOST_WORSE and chance < LEAST_CHANCE
    failed = "the words depend on the neighbours" if not same else "more words are wrong" if worse else None
    detail = (
        f"By the sign test over the clips, {chance:.2f} is the chance of so many worse ones, were both as good; below "
        f"{LEAST_CHANCE}, and from {MOST_WORSE} more wrong words on, the words count as worse"
    )
    return Comparison(title, ours, quicker, "cpu", REACH, of_ours, of_theirs, gate, failed, details=(detail,))


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
    """The words recognised in each clip beside other neighbours."""
    order = random.Random(1).sample(range(len(chosen)), len(chosen))
    heard = dict(zip(order, _together(transcriber, [chosen[number] for number in order]), strict=True))
    return [heard[number] for number in range(len(chosen))]


def _together(transcriber: Transcriber, chosen: Sequence[Clip]) -> list[str]:
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


def _real_clips() -> Iterator[Clip]:
    if not REAL_VOICES.is_dir():
        return
    with (REAL_VOICES / "reference.tsv").open() as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            if SHORTEST_S <= float(row["duration_s"]) <= LONGEST_S:
                yield Clip(_sound(REAL_VOICES / row["file"]), row["text"])


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
