"""Utterances -> words: what is recognised at first, and what becomes of it where that is doubtful.

Owns the doubts. Words are doubtful where they are guessed (a low log-probability), are missing although voice detection
found speech, or repeat themselves. Doubtful utterances are recognised again in the whole context of the model; one that
still is in a loop, or seems to be one in silence, piece by piece at its pauses. The better result is the one with the
better ``_Candidate.rank``; of what is left, the copies are cut that no time is left for, and nothing else.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from actors.stages.repetition import (
    Copy,
    copies,
    impossible_copies,
    repeats_itself,
    said_once,
    skips_speech,
    without,
)
from actors.stages.utterances import Utterance, pieces
from cluster.contracts.events import Event
from cluster.contracts.results import Word
from cluster.models.speech_context import LONGEST_S
from cluster.models.whisper import Recognition, SpeechModel
from cluster.security.event_log import EventLog

logger = EventLog(__name__)

NO_SPEECH_THRESHOLD = 0.6
LOG_PROB_THRESHOLD = -1.0
"""Whisper's own gates (Radford et al., 2022, section 4.5): silence and guessing."""
LEAST_SPEECH_S = 0.3
"""Shorter speech may be a noise: no word in it is no doubt."""
LEAST_PROBABILITY = 1e-6
"""So that a logarithm can be taken."""


@dataclass(frozen=True)
class _Candidate:
    """What was recognised in an utterance of ``duration_s``; the words' times are rising, and within its sound."""

    words: tuple[Word, ...]
    mean_log_probability: float
    no_speech_probability: float
    duration_s: float
    is_of_pieces: bool = False

    @cached_property
    def loops(self) -> list[Copy]:
        """The copies of a phrase that cannot have been said; the words of each piece have their own sound."""
        return [] if self.is_of_pieces else impossible_copies(self.words)

    @property
    def fits_its_time(self) -> bool:
        """Whether there is as much speech as the words say, neither less nor more."""
        return not self.loops and not skips_speech(self.words, self.duration_s)

    @property
    def phrase(self) -> str:
        """What is said again and again; empty where nothing is."""
        again = next(iter(copies(self.words)), Copy(0, 0))
        return "".join(word.text for word in self.words[2 * again.first - again.last : again.first])

    @property
    def certainty(self) -> float:
        """Log-probability per token; of what repeats itself, of the first copy: the decoder is sure of the others."""
        if not repeats_itself(self.words):
            return self.mean_log_probability
        once = [math.log(max(word.probability, LEAST_PROBABILITY)) for word in said_once(self.words)]
        return min(self.mean_log_probability, _mean(once))

    @property
    def is_sure(self) -> bool:
        """Whether there are words, and the decoder is sure of them on average, copies included."""
        return bool(self.words) and self.mean_log_probability >= LOG_PROB_THRESHOLD

    @property
    def is_surely_said(self) -> bool:
        """Whether the decoder is sure, and of speech."""
        return self.is_sure and self.no_speech_probability <= NO_SPEECH_THRESHOLD

    @property
    def rank(self) -> tuple[int, float]:
        """By how much it is to be trusted: sure words that fit their time, other sure words, then the rest."""
        return self.is_sure + (self.is_sure and self.fits_its_time), self.mean_log_probability

    def is_doubtful(self, spoken_s: float) -> bool:
        """Whether the utterance, ``spoken_s`` of which is speech, should be recognised again."""
        if not self.words:
            return spoken_s > LEAST_SPEECH_S
        is_guessed = self.mean_log_probability < LOG_PROB_THRESHOLD
        return is_guessed or repeats_itself(self.words) or not self.fits_its_time


class Recognizer:
    """Asks ``model``."""

    def __init__(self, model: SpeechModel) -> None:
        self._model = model

    def recognise(self, said: Sequence[Utterance], context_s: float, language: str) -> list[list[Word]]:
        """The words of each utterance, in the video's time; ``context_s`` is the same for all of them."""
        first = self._model.recognise([utterance.samples for utterance in said], context_s, language)
        return [
            self._settled(utterance, _candidate(utterance, recognition), language)
            for utterance, recognition in zip(said, first, strict=True)
        ]

    def _settled(self, utterance: Utterance, first: _Candidate, language: str) -> list[Word]:
        candidates = [first]
        if first.is_doubtful(utterance.spoken_s) and self._context_s(utterance) < LONGEST_S:
            [again] = self._model.recognise([utterance.samples], LONGEST_S, language)
            candidates.append(_candidate(utterance, again))
        if _is_silence(candidates):
            if not any(one.is_sure for one in candidates):
                return []
            # Sure of its copies only: a loop in noise, or one word said over and over. Pieces leave no room for loops.
            return list(utterance.in_video(self._by_pieces(utterance, language, must_be_sure=True).words))
        best = max(candidates, key=lambda one: one.rank)
        if not best.fits_its_time:
            best = max(best, self._by_pieces(utterance, language, best.phrase), key=lambda one: one.rank)
        if best.loops:
            logger.info(Event.LOOP_CUT, start_s=utterance.start_s, copies=len(best.loops))
        return list(utterance.in_video(without(best.words, best.loops)))

    def _by_pieces(
        self, utterance: Utterance, language: str, phrase: str = "", *, must_be_sure: bool = False
    ) -> _Candidate:
        """What is recognised in the pieces between its pauses, put together.

        The pieces show how often ``phrase`` was said, and the whole how: it is the prompt for each of them.
        ``must_be_sure``: pieces that one of Whisper's two gates holds back are left out, not only those that both do.
        """
        words: list[Word] = []
        log_probabilities = []
        for piece in pieces(utterance):
            [recognition] = self._model.recognise([piece.samples], self._context_s(piece), language, phrase)
            found = _candidate(piece, recognition)
            if found.is_surely_said if must_be_sure else not _is_silence([found]):
                words += piece.in_video(without(found.words, found.loops))
                log_probabilities.append(found.mean_log_probability)
        return _Candidate(tuple(words), _mean(log_probabilities), 0.0, utterance.duration_s, is_of_pieces=True)

    def _context_s(self, utterance: Utterance) -> float:
        return self._model.context.context_s(utterance.duration_s)


def _is_silence(candidates: Sequence[_Candidate]) -> bool:
    """Whether nothing was said, by Whisper's gates: guesses, and no speech to make them of."""
    return (
        _mean([one.certainty for one in candidates]) < LOG_PROB_THRESHOLD
        and _mean([one.no_speech_probability for one in candidates]) > NO_SPEECH_THRESHOLD
    )


def _candidate(utterance: Utterance, recognition: Recognition) -> _Candidate:
    words = recognition.words if re.search(r"\w", recognition.text) else ()
    return _Candidate(
        _within(words, utterance.duration_s),
        recognition.mean_log_probability,
        recognition.no_speech_probability,
        utterance.duration_s,
    )


def _within(words: Iterable[Word], end_s: float) -> tuple[Word, ...]:
    """``words`` with times that rise, and end with the sound."""
    at_s = 0.0
    placed = []
    for word in words:
        start_s = _between(at_s, word.start_s, end_s)
        at_s = _between(start_s, word.end_s, end_s)
        placed.append(Word(start_s, at_s, word.text, _between(0.0, word.probability, 1.0)))
    return tuple(placed)


def _between(low: float, value: float, high: float) -> float:
    """``value`` clamped; a value that is no number becomes ``low``."""
    return min(max(low, value), high) if math.isfinite(value) else low


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
