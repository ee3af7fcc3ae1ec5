"""The words' times distinguish loops from chants."""

from collections.abc import Sequence

import pytest

from actors.stages.repetition import (
    Copy,
    copies,
    impossible_copies,
    repeats_itself,
    said_once,
    skips_speech,
    without,
)
from cluster.contracts.results import Word


def words(text: str, each_s: Sequence[float] | float = 0.4) -> list[Word]:
    """Words one after the other, each so long."""
    parts = text.split()
    lengths = [each_s] * len(parts) if isinstance(each_s, float) else each_s
    at_s, made = 0.0, []
    for part, length in zip(parts, lengths, strict=True):
        made.append(Word(at_s, at_s + length, f" {part}", 1.0))
        at_s += length
    return made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("the old trees are green", []),
        ("very very good", []),
        ("no no no", []),
        ("no no no no", [Copy(1, 2), Copy(2, 3), Copy(3, 4)]),
        ("Never give up. Never give up. Our train leaves.", [Copy(3, 6)]),
        ("Well, never give up! Never give up. never give", [Copy(4, 7), Copy(7, 9)]),
        ("I see, I see what you mean", []),
    ],
)
def test_copies_are_phrases_said_again(text: str, expected: list[Copy]) -> None:
    assert copies(words(text)) == expected


def test_copies_that_take_time_are_possible() -> None:
    chant = words("Never give up. " * 8)
    assert repeats_itself(chant)
    assert len(copies(chant)) == 7
    assert impossible_copies(chant) == []


def test_copies_that_take_no_time_are_cut_alone() -> None:
    said = words("But I will not help it. but I will not help it.", [0.3] * 6 + [0.02] * 6)
    assert impossible_copies(said) == [Copy(6, 12)]
    assert without(said, impossible_copies(said)) == said[:6]


def test_words_without_time_that_repeat_nothing_stay() -> None:
    said = words("near the river bank there is a lazy dog", 0.0)
    assert impossible_copies(said) == []


def test_said_once_of_a_chant_is_its_first_copy() -> None:
    said = words("Never give up. Never give up. Never give up. Our train leaves.")
    assert [word.text for word in said_once(said)] == [" Never", " give", " up.", " Our", " train", " leaves."]


@pytest.mark.parametrize(
    ("each_s", "end_s", "expected"),
    [
        ([0.4, 0.4, 0.4], 1.6, False),
        ([0.4, 2.9, 0.4], 4.0, False),
        ([0.4, 3.1, 0.4], 4.0, True),
        ([3.1, 0.4, 0.4], 4.0, True),
        ([0.4, 0.4, 0.4], 4.5, True),
    ],
)
def test_speech_is_skipped_where_words_leave_time(each_s: list[float], end_s: float, expected: bool) -> None:
    assert skips_speech(words("never give up", each_s), end_s) is expected
