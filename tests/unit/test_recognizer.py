"""Doubtful words: recognised again, in pieces, or left out. The model is scripted: no decoder loops on demand."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from actors.stages.recognizer import Recognizer
from actors.stages.utterances import Part, Utterance
from cluster.contracts.media import SPEECH_RATE_HZ
from cluster.contracts.results import Word
from cluster.models.speech_context import LONGEST_S, SHORT
from cluster.models.whisper import Recognition
from tests.support.spoken_clips import sentences, speech_of

SURE, GUESSED = -0.2, -1.5
GREEN = "The old trees are green."


class Scripted:
    """Answers ``first`` in a short context, ``again`` in the whole one, ``piece`` where it is prompted."""

    context = SHORT

    def __init__(self, first: Recognition, again: Recognition, piece: Recognition | None = None) -> None:
        self._first, self._again, self._piece = first, again, piece
        self.contexts_s: list[float] = []
        self.prompts: list[str] = []

    def recognise(
        self, stretches: Sequence[Any], context_s: float, language: str, prompt: str = ""
    ) -> list[Recognition]:
        self.contexts_s.append(context_s)
        self.prompts.append(prompt)
        if prompt and self._piece is not None:
            return [self._piece] * len(stretches)
        return [self._again if context_s == LONGEST_S else self._first] * len(stretches)


def recognition(text: str, each_s: float = 0.4, sure: float = SURE, no_speech: float = 0.1) -> Recognition:
    parts = text.split()
    made = tuple(Word(n * each_s, (n + 1) * each_s, f" {part}", 0.9) for n, part in enumerate(parts))
    return Recognition(made, sure, no_speech)


def looped(text: str, times: int) -> Recognition:
    """A text whose copies take no time."""
    once = recognition(text).words
    end_s = once[-1].end_s
    return Recognition(once + tuple(Word(end_s, end_s, w.text, 0.99) for w in once) * (times - 1), SURE, 0.1)


def utterance(seconds: float = 3.5) -> Utterance:
    return Utterance((Part(0.0, 0.4, 7.0),), seconds - 0.8, np.zeros(round(seconds * SPEECH_RATE_HZ), np.float32))


def said_over(times: int) -> Utterance:
    """A sentence and a pause of half a second, over and over."""
    speech, pause = speech_of(sentences()[0]), np.zeros(round(0.5 * SPEECH_RATE_HZ), np.int16)
    samples = np.concatenate([speech, pause] * times).astype(np.float32) / 32768.0
    return Utterance((Part(0.0, 0.4, 7.0),), len(samples) / SPEECH_RATE_HZ, samples)


def text_of(model: Scripted, said: Utterance | None = None) -> str:
    one = said or utterance()
    [words] = Recognizer(model).recognise([one], SHORT.context_s(one.duration_s), "en")  # type: ignore[arg-type]
    assert all(7.0 <= word.start_s <= word.end_s <= 7.0 + one.duration_s for word in words)
    return "".join(word.text for word in words).strip()


def test_recognizer_sure_words_are_asked_for_once() -> None:
    model = Scripted(recognition(GREEN), recognition("Something else entirely."))
    assert text_of(model) == GREEN
    assert model.contexts_s == [10.0]


@pytest.mark.parametrize(
    "doubtful",
    [
        recognition("The cold teas agree.", sure=GUESSED),
        Recognition((), 0.0, 0.1),
        recognition("..."),
        looped("The cold teas agree.", 2),
        recognition("trees", each_s=4.0),
    ],
    ids=["guessed", "nothing", "no word", "loop", "too long"],
)
def test_recognizer_doubtful_words_are_asked_for_again(doubtful: Recognition) -> None:
    model = Scripted(doubtful, recognition(GREEN))
    assert text_of(model) == GREEN
    assert model.contexts_s == [10.0, LONGEST_S]


def test_recognizer_better_words_win() -> None:
    guessed = recognition("The cold teas agree.", sure=-1.2)
    assert text_of(Scripted(guessed, recognition("Something else.", sure=-1.4))) == "The cold teas agree."


def test_recognizer_nothing_in_a_short_noise_is_no_doubt() -> None:
    model = Scripted(Recognition((), 0.0, 0.1), recognition(GREEN))
    assert text_of(model, utterance(1.0)) == ""
    assert model.contexts_s == [10.0]


def test_recognizer_guesses_in_silence_are_left_out() -> None:
    noise = recognition("Thank you.", sure=GUESSED, no_speech=0.8)
    assert text_of(Scripted(noise, noise)) == ""


def test_recognizer_guesses_in_speech_are_kept() -> None:
    unclear = recognition(GREEN, sure=GUESSED, no_speech=0.2)
    assert text_of(Scripted(unclear, unclear)) == GREEN


def test_recognizer_loop_that_remains_loses_its_copies() -> None:
    loop = looped(GREEN, 5)
    assert text_of(Scripted(loop, loop)) == GREEN


def test_recognizer_loop_in_silence_is_left_out() -> None:
    once = tuple(Word(n * 0.1, (n + 1) * 0.1, " you", 0.05 if n == 0 else 0.99) for n in range(30))
    assert text_of(Scripted(*[Recognition(once, SURE, 0.8)] * 2)) == ""


@pytest.mark.parametrize(("sure", "no_speech", "expected"), [(SURE, 0.03, 2), (SURE, 0.8, 0), (GUESSED, 0.03, 0)])
def test_recognizer_chant_like_a_loop_is_heard_in_pieces(sure: float, no_speech: float, expected: int) -> None:
    once = tuple(Word(n * 0.1, (n + 1) * 0.1, " round", 0.05 if n == 0 else 0.99) for n in range(30))
    loop = Recognition(once, SURE, 0.8)
    said = said_over(2)

    class ByLength(Scripted):
        def recognise(self, stretches: Sequence[Any], *_: object, **__: object) -> list[Recognition]:
            whole = len(stretches[0]) == len(said.samples)
            return [loop if whole else recognition("Round.", sure=sure, no_speech=no_speech)]

    assert text_of(ByLength(loop, loop), said).split() == ["Round."] * expected


def test_recognizer_words_of_pieces_are_no_copies() -> None:
    said = said_over(4)
    loop = looped("Well, I never.", 9)
    at_s = [0.0, 0.02, 0.04, 2.4]
    piece = tuple(Word(start_s, end_s, " well", 0.9) for start_s, end_s in itertools.pairwise(at_s))
    assert text_of(Scripted(loop, loop, Recognition(piece, SURE, 0.1)), said).split() == ["well"] * 12


def test_recognizer_loop_with_pauses_is_asked_for_in_pieces() -> None:
    said = said_over(2)
    model = Scripted(looped(GREEN, 9), looped(GREEN, 9), recognition(GREEN, each_s=1.0))
    assert text_of(model, said).count(GREEN) == len([prompt for prompt in model.prompts if prompt]) >= 2
    assert set(model.prompts) == {"", f" {GREEN}"}
