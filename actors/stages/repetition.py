"""Phrases that a text says several times in a row, and what the words' times say of them.

Owns telling a loop of the decoder from a chant or a sentence said three times: a copy that no sound is left for gets no
time. Speech that the decoder skipped, as it does among many copies, makes a word too long. Pure; words in, words out.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from faster_whisper.transcribe import get_compression_ratio

from cluster.contracts.results import Word

COMPRESSION_RATIO_THRESHOLD = 2.4
"""Whisper's own gate for text that repeats itself (Radford et al., 2022, section 4.5)."""
LEAST_REPEATED_WORDS = 3
"""Fewer words that are said again are no sign of a loop: "very very", "no, no"."""
NO_TIME_S = 0.03
"""A word that takes no longer has no sound: one step of the alignment is 0.02 s."""
LONGEST_WORD_S = 3.0
"""Voice detection leaves pauses of up to 2 s in an utterance, and a word has the pause before or behind it. On real
voices the longest was 1.4 s."""


@dataclass(frozen=True)
class Copy:
    """The words from ``first`` up to ``last`` (exclusive): a phrase that was said just before them."""

    first: int
    last: int


def repeats_itself(words: Sequence[Word]) -> bool:
    """Whether a text compresses as well as one that was said over and over."""
    return bool(words) and get_compression_ratio("".join(word.text for word in words)) > COMPRESSION_RATIO_THRESHOLD


def copies(words: Sequence[Word]) -> list[Copy]:
    """What is said once more, of phrases that are said several times in a row."""
    plain = [re.sub(r"\W", "", word.text.lower()) for word in words]
    found = []
    at = 0
    while at < len(plain):
        length, end = _loop_from(plain, at)
        if length:
            found += [Copy(first, min(first + length, end)) for first in range(at + length, end, length)]
        at = max(at + 1, end)
    return found


def impossible_copies(words: Sequence[Word]) -> list[Copy]:
    """The copies that no time is left for: at least half of the words of each take none."""
    return [copy for copy in copies(words) if _takes_no_time(words[copy.first : copy.last])]


def skips_speech(words: Sequence[Word], end_s: float) -> bool:
    """Whether there is more speech up to ``end_s`` than the words say: one of them is too long, or they end early."""
    ends_s = [0.0, *(word.end_s for word in words), end_s]
    return any(end - before > LONGEST_WORD_S for before, end in itertools.pairwise(ends_s))


def without(words: Sequence[Word], copies: Sequence[Copy]) -> list[Word]:
    """``words`` but for those in ``copies``."""
    left_out = {number for copy in copies for number in range(copy.first, copy.last)}
    return [word for number, word in enumerate(words) if number not in left_out]


def said_once(words: Sequence[Word]) -> list[Word]:
    """``words`` without any copy: what is left of them shows how well they were recognised.

    A decoder in a loop is sure of every further copy.
    """
    return without(words, copies(words))


def _takes_no_time(words: Sequence[Word]) -> bool:
    return 2 * sum(word.end_s - word.start_s <= NO_TIME_S for word in words) >= len(words)


def _loop_from(plain: Sequence[str], at: int) -> tuple[int, int]:
    """Length of the shortest phrase that is said again and again from ``at`` on, and where that ends; 0 for none."""
    for length in range(1, (len(plain) - at) // 2 + 1):
        end = at + length
        while end < len(plain) and plain[end] == plain[end - length]:
            end += 1
        whole = (end - at) // length * length
        # A copy that is begun counts only where the text ends: the decoder was stopped in it.
        end = end if end == len(plain) else at + whole
        if whole >= 2 * length and end - at - length >= LEAST_REPEATED_WORDS:
            return length, end
    return 0, at
