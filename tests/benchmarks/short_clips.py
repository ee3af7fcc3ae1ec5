"""Short spoken clips: several of them packed into one of Whisper's windows, against faster-whisper file by file.

64 clips of 2 to 6 s, each a sentence of the demo's narration; from the second round on read faster, so that no two are
the same. The same model, beams and threads on every side; the sound is decoded beforehand.
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
from tests.benchmarks.words import error_rate, one_word

CLIPS, CLIPS_QUICK = 64, 16
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


def compare(rounds: int, quick: bool, say: Say) -> list[Comparison]:
    """Against whichever of faster-whisper's two ways is the quicker one."""
    chosen = list(itertools.islice(_clips(), CLIPS_QUICK if quick else CLIPS))
    model = WhisperModel(str(bundled_whisper_directory()), device="cpu", compute_type="int8", cpu_threads=THREADS)
    transcriber = Transcriber("bundled", "cpu", "int8", THREADS, BEAM_SIZE)
    ways = {
        "heimdex": partial(_packed, transcriber, chosen),
        "transcribe, file by file": partial(_one_by_one, model, chosen),
        "BatchedInferencePipeline, file by file": partial(_pipeline, BatchedInferencePipeline(model), chosen),
    }
    first = {name: timed(way) for name, way in ways.items()}
    errors = {name: error_rate([clip.words for clip in chosen], heard) for name, (heard, _) in first.items()}
    for name, (_, spent) in first.items():
        say(f"{name}: CPU {spent.cpu_s:.1f} s, word error rate {errors[name]:.4f}")
    shuffled = _error_rate_among_others(transcriber, chosen)
    ours, *others = ways
    quicker = min(others, key=lambda name: first[name][1].cpu_s)
    of_ours, of_theirs = in_turn([Side(ours, ways[ours]), Side(quicker, ways[quicker])], rounds, say)
    gate = ", ".join(f"{name}: word error rate {rate:.4f}" for name, rate in errors.items())
    worst = max(errors[ours], shuffled)
    wrong = (
        None
        if worst <= min(errors[name] for name in others) + one_word([clip.words for clip in chosen])
        else "more words are wrong"
    )
    title = f"{len(chosen)} spoken clips of {SHORTEST_S:.0f} to {LONGEST_S:.0f} s"
    detail = f"With the clips in another order, beside other neighbours: word error rate {shuffled:.4f}."
    return [Comparison(title, ours, quicker, "cpu", REACH, of_ours, of_theirs, gate, wrong, details=(detail,))]


def _error_rate_among_others(transcriber: Transcriber, chosen: Sequence[Clip]) -> float:
    shuffled = random.Random(1).sample(list(chosen), len(chosen))
    return error_rate([clip.words for clip in shuffled], _packed(transcriber, shuffled))


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
