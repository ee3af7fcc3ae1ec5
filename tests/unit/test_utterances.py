"""Speech in a video's sound: cut where it is long, none where there is silence, in pieces at its pauses."""

import numpy as np
import pytest

from actors.stages.utterances import WHOLE_S, Part, Utterance, pieces, utterances
from cluster.contracts.media import SPEECH_RATE_HZ, SpeechWindow
from cluster.contracts.results import Word
from tests.support.spoken_clips import narration, sentences, speech_of

RATE = SPEECH_RATE_HZ


@pytest.mark.parametrize("seconds", [0, 10])
def test_utterances_of_silence_are_none(seconds: int) -> None:
    assert list(utterances(SpeechWindow(0.0, np.zeros(seconds * RATE, np.int16)))) == []


def test_utterances_of_long_speech_are_cut_and_complete() -> None:
    window = SpeechWindow(100.0, narration())
    said = list(utterances(window))
    assert len(said) >= 2
    assert all(one.duration_s <= WHOLE_S and 0 < one.spoken_s <= one.duration_s for one in said)
    starts_s = [part.start_s for one in said for part in one.parts]
    assert len(starts_s) >= 10
    assert starts_s == sorted(starts_s)
    assert 100.0 <= starts_s[0] <= starts_s[-1] <= 100.0 + window.duration_s


def test_utterances_of_a_pause_leave_it_out() -> None:
    speech, pause = speech_of(sentences()[0]), np.zeros(10 * RATE, np.int16)
    [said] = utterances(SpeechWindow(100.0, np.concatenate([speech, pause, speech])))
    first, second = said.parts
    between_s = 100.0 + 10.0 + len(speech) / RATE
    assert first.start_s == pytest.approx(100.0, abs=0.5)
    assert second.start_s == pytest.approx(between_s, abs=0.8)
    assert said.duration_s == pytest.approx(2 * len(speech) / RATE, abs=1.5)


def test_words_are_of_the_part_in_whose_speech_they_end() -> None:
    parts = (Part(0.0, 0.4, 20.0), Part(5.0, 5.4, 60.0))
    said = Utterance(parts, 9.0, np.zeros(10 * RATE, np.float32))
    times = [(0.1, 0.3), (4.0, 5.2), (5.2, 5.6), (5.6, 10.0)]
    placed = said.in_video([Word(start_s, end_s, " word", 1.0) for start_s, end_s in times])
    expected = [(20.1, 20.3), (24.0, 25.0), (60.2, 60.6), (60.6, 65.0)]
    assert [(word.start_s, word.end_s) for word in placed] == [pytest.approx(times) for times in expected]


def test_pieces_end_at_the_pauses_of_an_utterance() -> None:
    first, second = (speech_of(sentence) for sentence in sentences()[:2])
    pause = np.zeros(round(0.5 * RATE), np.int16)
    [whole] = utterances(SpeechWindow(5.0, np.concatenate([first, pause, second])))
    cut = list(pieces(whole))
    assert len(cut) >= 2
    between_s = len(first) / RATE
    assert any(abs(one.start_s - between_s) <= 0.5 for one in cut[1:])
