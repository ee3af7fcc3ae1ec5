"""Agreement of the recognised words with the spoken ones."""

import math
import re
from collections.abc import Sequence

import jiwer

LEAST_CHANCE = 0.05
"""Below it, more wrong words are no chance any more."""


def error_rate(said: Sequence[str], heard: Sequence[str]) -> float:
    """Of all words of all clips; neither case nor punctuation counts."""
    return float(jiwer.wer([_plain(text) for text in said], [_plain(text) for text in heard]))


def chance_of_more_wrong(said: Sequence[str], ours: Sequence[str], theirs: Sequence[str]) -> float:
    """Probability of such a difference if both were as good. Of the texts in which one is better, so many are theirs:
    the sign test.

    A clear answer, below 0.05, needs at least five such texts.
    """
    pairs = zip(said, ours, theirs, strict=True)
    wrong = [(error_rate([text], [one]), error_rate([text], [other])) for text, one, other in pairs]
    worse, better = sum(one > other for one, other in wrong), sum(one < other for one, other in wrong)
    apart = worse + better
    return sum(math.comb(apart, count) for count in range(worse, apart + 1)) / 2**apart


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^a-z0-9' ]+", " ", text.lower()).split())
