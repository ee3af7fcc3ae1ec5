"""Speech in a video's sound: cut where it is long, none where there is silence, in pieces at its pauses."""

import numpy as np
import pytest
from spoken_clips import narration, sentences, speech_of

from actors.stages.utterances import LONGEST_S, PAD_S, pieces, utterances
from cluster.contracts.media import SPEECH_RATE_HZ, SpeechWindow

RATE = SPEECH_RATE_HZ


@pytest.mark.parametrize("seconds", [0, 10])
def test_utterances_of_silence_are_none(seconds: int) -> None:
    assert list(utterances(SpeechWindow(0.0, np.zeros(seconds * RATE, np.int16)))) == []


def test_utterances_of_long_speech_are_cut_and_complete() -> None:
    window = SpeechWindow(100.0, narration())
    said = list(utterances(window))
    assert len(said) >= 2
    assert all(one.duration_s <= LONGEST_S + 2 * PAD_S for one in said)
    assert all(0 < one.spoken_s <= one.duration_s for one in said)
    starts_s = [one.start_s for one in said]
    assert starts_s == sorted(starts_s)
    ends_s = [one.start_s + one.duration_s for one in said]
    assert all(end <= start + 1e-6 for end, start in zip(ends_s, starts_s[1:], strict=False))
    assert starts_s[0] >= 100.0
    assert ends_s[-1] <= 100.0 + window.duration_s + 1e-6


def test_pieces_end_at_the_pauses_of_an_utterance() -> None:
    first, second = (speech_of(sentence) for sentence in sentences()[:2])
    pause = np.zeros(round(0.5 * RATE), np.int16)
    [whole] = utterances(SpeechWindow(5.0, np.concatenate([first, pause, second])))
    cut = list(pieces(whole))
    assert len(cut) >= 2
    assert cut[0].start_s >= 5.0
    between_s = 5.0 + len(first) / RATE
    assert any(abs(one.start_s - between_s) <= 0.5 for one in cut[1:])
