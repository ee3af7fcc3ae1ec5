"""Utterances put together into windows: nothing is lost, doubled or torn, and words go back to whoever said them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from spoken_clips import narration

from actors.stages.speech_packing import GAP_S, LONGEST_S, PAD_S, WINDOW_S, PackedWindow, Packer, Utterance, utterances
from cluster.contracts.media import SPEECH_RATE_HZ, SpeechWindow

RATE = SPEECH_RATE_HZ


def utterance(owner: int, duration_s: float, onset_s: float = 0.4) -> Utterance:
    return Utterance(owner, 0.0, onset_s, np.full(round(duration_s * RATE), owner + 1, np.float32))


def packed(said: list[Utterance]) -> list[PackedWindow]:
    packer = Packer()
    closed = [packer.add(one) for one in said]
    return [window for window in closed if window is not None] + list(packer.close())


@given(some.lists(some.floats(0.5, WINDOW_S), max_size=40))
def test_every_utterance_is_in_one_window_and_whole(durations_s: list[float]) -> None:
    said = [utterance(number, duration_s) for number, duration_s in enumerate(durations_s)]
    windows = packed(said)
    assert sorted(one.owner for window in windows for one in window.utterances) == list(range(len(said)))
    for window in windows:
        assert window.end_s <= WINDOW_S
        samples = window.samples
        assert samples.shape == (round(WINDOW_S * RATE),)
        for one in window.utterances:
            assert abs(int((samples == one.owner + 1).sum()) - len(one.samples)) <= 1


@given(some.lists(some.floats(0.5, 12.0), min_size=2, max_size=40))
def test_between_two_utterances_there_is_a_gap(durations_s: list[float]) -> None:
    for window in packed([utterance(number, duration_s) for number, duration_s in enumerate(durations_s)]):
        ends_s = [start + one.duration_s for start, one in zip(window.starts_s, window.utterances, strict=True)]
        gaps_s = [start - end for start, end in zip(window.starts_s[1:], ends_s, strict=False)]
        assert gaps_s == pytest.approx([GAP_S] * len(gaps_s))


def test_short_utterances_share_windows() -> None:
    assert len(packed([utterance(number, 4.0) for number in range(60)])) <= 11


def test_a_word_is_whose_speech_it_ends_in() -> None:
    window = PackedWindow()
    assert window.add(utterance(0, 5.0))
    assert window.add(utterance(1, 5.0))  # from 5.5, speech from 5.9
    places = [window.place_of(end_s) for end_s in (0.1, 4.9, 5.8, 5.95, 30.0)]
    assert places == [0, 0, 0, 1, 1]


def test_where_nobody_speaks_there_is_no_utterance() -> None:
    assert list(utterances(0, SpeechWindow(0.0, np.zeros(10 * RATE, np.int16)))) == []
    assert list(utterances(0, SpeechWindow(0.0, np.zeros(0, np.int16)))) == []


def test_speech_without_a_pause_is_cut_and_all_of_it_kept() -> None:
    window = SpeechWindow(100.0, narration())
    said = list(utterances(3, window))
    assert len(said) >= 2
    assert all(one.duration_s <= LONGEST_S + 2 * PAD_S for one in said)
    assert {one.owner for one in said} == {3}
    starts_s = [one.start_s for one in said]
    assert starts_s == sorted(starts_s)
    ends_s = [one.start_s + one.duration_s for one in said]
    assert all(end <= start + 1e-6 for end, start in zip(ends_s, starts_s[1:], strict=False))
    assert starts_s[0] >= 100.0
    assert ends_s[-1] <= 100.0 + window.duration_s + 1e-6
