"""Real voices: the words of each depend on it alone, are not worse than file by file, and copies are all there.

Where the real voices are not beside this repository, those of the demo's clips take their place.
"""

import random
from collections.abc import Sequence

import jiwer
import numpy as np
import pytest

from actors.stages.transcriber import SoundOfVideo, Transcriber
from cluster.contracts.media import SPEECH_RATE_HZ, SpeechWindow
from cluster.contracts.results import Transcript, Word
from tests.support.file_by_file import recognised_file_by_file
from tests.support.media_files import tone
from tests.support.spoken_clips import (
    REAL_VOICES,
    SHARED_MEDIA,
    Spoken,
    plain_words,
    real_voices,
    sentences,
    sound_of,
    speech_of,
)

RATE = SPEECH_RATE_HZ
VOICES = 14
"""Number of voices that are shuffled: all would take minutes."""
MOST_WORSE = 0.005
"""So much more of the words than file by file may differ from the reference."""
REPORTED = SHARED_MEDIA / "reported"

needs_voices = pytest.mark.skipif(not REAL_VOICES.is_dir(), reason=f"real voices are not here: {REAL_VOICES}")
needs_reported = pytest.mark.skipif(not REPORTED.is_dir(), reason=f"the reported files are not here: {REPORTED}")


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber("bundled", "cpu", "int8", threads=2)


@pytest.fixture(scope="module")
def voices() -> list[Spoken]:
    """Of several lengths, so that calls are shared by some and not by others."""
    known = real_voices() or sentences()
    return random.Random(0).sample(known, min(VOICES, len(known)))


def transcribed(transcriber: Transcriber, sounds: Sequence[np.ndarray]) -> list[list[Word]]:
    videos = transcriber.transcribe_all([SoundOfVideo([SpeechWindow(0.0, samples)], "en") for samples in sounds])
    transcripts = [video.transcript for video in videos]
    assert all(isinstance(transcript, Transcript) for transcript in transcripts)
    return [transcript.words for transcript in transcripts if isinstance(transcript, Transcript)]


def text_of(transcriber: Transcriber, samples: np.ndarray) -> str:
    [words] = transcribed(transcriber, [samples])
    return " ".join(plain_words("".join(word.text for word in words)))


def said_times(samples: np.ndarray, times: int, pause_s: float) -> np.ndarray:
    """``samples`` over and over, with pauses."""
    return np.concatenate([samples, np.zeros(round(pause_s * RATE), np.int16)] * times)


@pytest.fixture(scope="module")
def alone(transcriber: Transcriber, voices: list[Spoken]) -> list[list[Word]]:
    return [words for voice in voices for words in transcribed(transcriber, [voice.samples])]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.long
def test_words_beside_any_neighbours_are_the_same(
    transcriber: Transcriber, voices: list[Spoken], alone: list[list[Word]], seed: int
) -> None:
    noise = np.random.default_rng(seed).integers(-20_000, 20_000, 4 * RATE).astype(np.int16)
    sounds = [*(voice.samples for voice in voices), noise, np.zeros(3 * RATE, np.int16), tone(2.0)]
    order = random.Random(seed).sample(range(len(sounds)), len(sounds))
    shuffled = dict(zip(order, transcribed(transcriber, [sounds[number] for number in order]), strict=True))
    assert [shuffled[number] for number in range(len(voices))] == alone  # the texts, the times and the probabilities
    assert [shuffled[number] for number in range(len(voices), len(sounds))] == [[], [], []]


@pytest.mark.long
def test_words_after_a_doubt_are_the_same(
    transcriber: Transcriber, voices: list[Spoken], alone: list[list[Word]]
) -> None:
    crowd = np.sum([np.resize(voice.samples, 8 * RATE).astype(np.int32) for voice in voices], axis=0)
    transcribed(transcriber, [np.clip(crowd // 4, -32768, 32767).astype(np.int16)])
    assert transcribed(transcriber, [voices[0].samples]) == [alone[0]]


@pytest.mark.long
@needs_voices
def test_words_of_real_voices_are_as_right_as_file_by_file(transcriber: Transcriber) -> None:
    known = real_voices()
    recognised = transcribed(transcriber, [voice.samples for voice in known])
    ours = wrong_words(known, ["".join(word.text for word in words) for words in recognised])
    assert ours <= wrong_words(known, recognised_file_by_file([voice.samples for voice in known])) + MOST_WORSE


def wrong_words(known: Sequence[Spoken], recognised: Sequence[str]) -> float:
    """The share of the words that differ from the reference."""
    said = [" ".join(plain_words(voice.words)) for voice in known]
    return float(jiwer.wer(said, [" ".join(plain_words(text)) for text in recognised]))


def test_sentence_said_three_times_is_there_three_times(transcriber: Transcriber) -> None:
    for voice in (sentences()[0], *real_voices()[:2]):
        speech = speech_of(voice)
        once = text_of(transcriber, speech).split()
        words = text_of(transcriber, said_times(speech, 3, 0.4)).split()
        assert jiwer.wer(" ".join(once * 3), " ".join(words)) <= 0.15, voice.name


@pytest.mark.parametrize("pause_s", [0.2, 0.6])
def test_chant_of_eight_then_a_sentence_is_complete(transcriber: Transcriber, pause_s: float) -> None:
    speech, sentence = speech_of(sentences()[1]), sentences()[4]
    [words] = transcribed(transcriber, [speech])
    phrase = speech[: round(words[2].end_s * RATE)]  # "Many years ago"
    text = text_of(transcriber, np.concatenate([said_times(phrase, 8, pause_s), sentence.samples]))
    assert text.count("many years ago") == 8
    assert text.endswith("leave the island")


@needs_reported
def test_reported_sentence_is_there_three_times(transcriber: Transcriber) -> None:
    text = text_of(transcriber, sound_of(REPORTED / "25_sentence_three_times.mp4"))
    assert text.count("lazy dog near the river bank") == 3


@needs_reported
def test_reported_chant_is_complete(transcriber: Transcriber) -> None:
    text = text_of(transcriber, sound_of(REPORTED / "26_chant_then_sentence.mp4"))
    assert text.count("never give up") == 8
    assert text.endswith("from the central station")


def test_times_of_words_are_those_of_the_whole_context(transcriber: Transcriber) -> None:
    for voice in (real_voices() or sentences())[:6]:
        samples = voice.samples.astype(np.float32) / 32768.0
        context_s = transcriber._model.context.context_s(len(samples) / RATE)
        [short] = transcriber._model.recognise([samples], context_s, "en")
        [whole] = transcriber._model.recognise([samples], 30.0, "en")
        assert context_s < 30.0
        both = [
            (one.end_s, other.end_s)
            for one, other in zip(short.words, whole.words, strict=False)
            if one.text == other.text
        ]
        assert len(both) >= 2
        assert np.median([abs(one - other) for one, other in both[:-1]]) <= 0.06  # three steps of the alignment


def test_times_of_words_are_where_they_are_said(transcriber: Transcriber) -> None:
    speech = speech_of(sentences()[0])
    [words] = transcribed(transcriber, [np.concatenate([np.zeros(4 * RATE, np.int16), speech])])
    [at_once] = transcribed(transcriber, [speech])
    assert 3.6 <= words[0].start_s <= 4.6
    assert abs(words[-1].end_s - (4.0 + len(speech) / RATE)) <= 0.8
    moved = [abs(late.end_s - early.end_s - 4.0) for late, early in zip(words, at_once, strict=False)]
    assert np.median(moved) <= 0.1


@pytest.mark.parametrize("seed", range(3))
def test_words_in_a_crowd_are_none(transcriber: Transcriber, seed: int) -> None:
    draw = np.random.default_rng(seed)
    loud = np.zeros(8 * RATE, np.float64)
    for _ in range(12):
        voice = sentences()[draw.integers(len(sentences()))].samples.astype(np.float64)
        loud += np.roll(np.resize(voice, loud.size), draw.integers(loud.size))[:: draw.choice([1, -1])]
    text = text_of(transcriber, (loud / np.abs(loud).max() * 20_000).astype(np.int16))
    assert text == ""
