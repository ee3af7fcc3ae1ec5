"""How well what was heard agrees with what was said."""

import re
from collections.abc import Sequence

import jiwer


def error_rate(said: Sequence[str], heard: Sequence[str]) -> float:
    """Of all words of all clips; neither case nor punctuation counts."""
    return float(jiwer.wer([_plain(text) for text in said], [_plain(text) for text in heard]))


def one_word(said: Sequence[str]) -> float:
    """The rate of a single wrong word: what a rate of so few words can tell apart."""
    return 1 / sum(len(_plain(text).split()) for text in said)


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^a-z0-9' ]+", " ", text.lower()).split())
