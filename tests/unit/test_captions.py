"""Captions: every word in one of them, in lines that fit, shown when they are said and never two at a time."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from cluster.contracts.results import Segment, Word
from cluster.transcripts.captions import LINE_WIDTH, LINES, SHORTEST_MS, Caption, captions, width_of

TEXTS = some.one_of(
    some.sampled_from(
        [" the", " tide,", " comes", " in.", "10", " ", "", "a" * 43, " 我们" * 30, " x" * 50, "我" * 99]
    ),
    some.text("ab 我们안é&<>-{}\\\n\r\t\u2028\x0b\x00\u00a0", max_size=6),
)
GAPS_S = some.sampled_from([0.0, 0.0, 0.0004, 0.2, 0.9995, 3.0])
SAID_S = some.sampled_from([0.0, 0.0005, 0.25, 0.4996, 2.0, 6.9])


@some.composite
def spoken(draw: some.DrawFn) -> list[Segment]:
    """Segments with the times that the transcriber promises: rising, where some words have none of their own."""
    at_s = draw(some.sampled_from([0.0, 59.9996, 3599.9995, 359_999.0]))
    segments = []
    for texts in draw(some.lists(some.lists(TEXTS, min_size=1, max_size=15), max_size=3)):
        words = []
        for text in texts:
            start_s = at_s + draw(GAPS_S)
            at_s = start_s + draw(SAID_S)
            words.append(Word(start_s, at_s, text, 0.5))
        segments.append(Segment(words[0].start_s, at_s, "".join(texts).strip(), tuple(words)))
    return segments


def segment(text: str, word_s: float = 0.4, start_s: float = 0.0) -> Segment:
    """Words one after the other, each as long."""
    texts = [f" {word}" for word in text.split(" ")]
    words = tuple(Word(start_s + n * word_s, start_s + (n + 1) * word_s, word, 0.9) for n, word in enumerate(texts))
    return Segment(start_s, start_s + len(words) * word_s, text, words)


def letters(text: str) -> str:
    """``text`` without blanks and what is no letter at all."""
    return "".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", "", text).split())


@settings(deadline=None)
@given(spoken())
def test_every_word_is_in_a_caption_and_nothing_else(segments: list[Segment]) -> None:
    shown = "".join(line for caption in captions(segments) for line in caption.lines)
    assert letters(shown) == letters("".join(word.text for one in segments for word in one.words))


@settings(deadline=None)
@given(spoken())
def test_captions_come_one_after_the_other_and_are_seen(segments: list[Segment]) -> None:
    end_ms = 0
    for caption in captions(segments):
        assert end_ms <= caption.start_ms < caption.end_ms
        end_ms = caption.end_ms


@settings(deadline=None)
@given(spoken())
def test_lines_fit_and_are_not_empty(segments: list[Segment]) -> None:
    for caption in captions(segments):
        assert 1 <= len(caption.lines) <= LINES
        for line in caption.lines:
            assert 0 < len(line) <= width_of(line) <= LINE_WIDTH
            assert line == line.strip()
            assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]|  ", line)


@settings(deadline=None)
@given(spoken())
def test_no_caption_is_longer_than_seven_seconds(segments: list[Segment]) -> None:
    assert all(caption.end_ms - caption.start_ms <= 7001 for caption in captions(segments))


@settings(deadline=None)
@given(some.lists(some.tuples(some.floats(0.0, 2.0), some.floats(0.01, 2.0)), min_size=1, max_size=80))
def test_a_caption_is_shown_while_its_words_are_said(times: list[tuple[float, float]]) -> None:
    at_s, words = 0.0, []
    for number, (gap_s, said_s) in enumerate(times):
        words.append(Word(at_s + gap_s, at_s + gap_s + said_s, f" word{number}", 0.9))
        at_s += gap_s + said_s
    for caption in captions([Segment(words[0].start_s, at_s, "", tuple(words))]):
        first, *_, last = [int(word.removeprefix("word")) for word in " ".join(caption.lines).split()] * 2
        spoken_ms = round(words[last].end_s * 1000)
        assert caption.start_ms == round(words[first].start_s * 1000)
        assert spoken_ms <= caption.end_ms <= max(spoken_ms, caption.start_ms + SHORTEST_MS)


def test_what_fits_is_one_caption_of_one_line() -> None:
    assert captions([segment("The tide comes in.", 0.5, 1.25)]) == [Caption(1250, 3250, ("The tide comes in.",))]


def test_two_lines_are_about_as_long() -> None:
    (caption,) = captions([segment("And so my fellow Americans ask not what your country can do", 0.2)])
    assert caption.lines == ("And so my fellow Americans ask", "not what your country can do")


def test_a_long_sentence_is_parted_where_a_clause_ends() -> None:
    text = (
        "And so, my fellow Americans, ask not what your country can do for you, "
        "ask what you can do for your country, and then go home to the sea."
    )
    parted = [" ".join(caption.lines) for caption in captions([segment(text, 0.2)])]
    assert parted == [
        "And so, my fellow Americans, ask not what your country can do for you,",
        "ask what you can do for your country, and then go home to the sea.",
    ]


def test_no_word_is_left_over_for_a_caption_of_its_own() -> None:
    text = " ".join(["tide"] * 17)
    assert [len(" ".join(caption.lines).split()) for caption in captions([segment(text, 0.2)])] == [9, 8]


def test_slow_speech_is_parted_by_its_times() -> None:
    shown = captions([segment("one two three four five six", 2.0)])
    assert [caption.lines for caption in shown] == [("one two three",), ("four five six",)]
    assert [(caption.start_ms, caption.end_ms) for caption in shown] == [(0, 6000), (6000, 12000)]


def test_short_caption_stays_until_read_or_the_next_begins() -> None:
    shown = captions([segment("No.", 0.2), segment("Yes.", 0.2, 0.5), segment("No.", 0.2, 9.0)])
    assert [(caption.start_ms, caption.end_ms) for caption in shown] == [(0, 500), (500, 1500), (9000, 10000)]


def test_words_at_the_same_moment_are_a_millisecond_apart() -> None:
    at_once = [segment("No.", 0.0, 5.0)] * 3
    assert [caption.start_ms for caption in captions(at_once)] == [5000, 5001, 5002]


def test_wide_letters_count_twice_and_need_no_blanks() -> None:
    words = tuple(Word(n * 0.1, (n + 1) * 0.1, letter, 0.9) for n, letter in enumerate("潮水来了又退去。" * 5))
    shown = captions([Segment(0.0, 4.0, "".join(word.text for word in words), words)])
    assert [caption.lines for caption in shown] == [
        ("潮水来了又退去。潮水来了又退去。潮水来了", "又退去。潮水来了又退去。潮水来了又退去。")
    ]


def test_a_word_wider_than_a_line_is_cut() -> None:
    (caption,) = captions([segment("a" * 50, 5.0)])
    assert caption == Caption(0, 5000, ("a" * 42, "a" * 8))


def test_what_has_no_blank_between_stays_on_one_line() -> None:
    texts = [" twenty" * 4 + " one", " 10", ",000", "-fold", " more words than fit here"]
    words = tuple(Word(n * 0.3, (n + 1) * 0.3, text, 0.9) for n, text in enumerate(texts))
    shown = captions([Segment(0.0, 1.5, "".join(texts).strip(), words)])
    assert any("10,000-fold" in line for caption in shown for line in caption.lines)


@pytest.mark.parametrize("texts", [[" the", " tide"], ["the ", "tide"], ["the", " ", "tide"], ["the\n", "", "tide"]])
def test_words_are_apart_wherever_their_blank_stands(texts: list[str]) -> None:
    words = tuple(Word(n * 0.5, (n + 1) * 0.5, text, 0.9) for n, text in enumerate(texts))
    (caption,) = captions([Segment(0.0, words[-1].end_s, "".join(texts), words)])
    assert caption.lines == ("the tide",)


def test_a_segment_without_words_has_those_of_its_text() -> None:
    assert captions([Segment(1.0, 2.5, "one\n\ntwo", ())]) == [Caption(1000, 2500, ("one two",))]
    long = captions([Segment(0.0, 20.0, " ".join(["tide"] * 20), ())])
    assert len(long) > 2
    assert (long[0].start_ms, long[-1].end_ms) == (0, 20_000)


@pytest.mark.parametrize("segments", [[], [Segment(0.0, 1.0, "", ())], [segment(" ", 1.0)]])
def test_where_nothing_was_said_there_is_no_caption(segments: list[Segment]) -> None:
    assert captions(segments) == []
