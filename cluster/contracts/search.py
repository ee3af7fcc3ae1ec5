"""What a search asks for: words with their operators, which lists, and which scenes count at all.

The same for every search engine. How an engine finds is ``cluster.store``'s, how lists are fused
``cluster.search.service``'s.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from cluster.contracts.errors import SearchRefused

if TYPE_CHECKING:  # the settings need this module, and commands without vectors no numpy
    import numpy as np
    from numpy.typing import NDArray


class Retriever(StrEnum):
    """The ranked lists: words as they were said or seen, what they mean, and what the picture shows."""

    WORDS = "words"
    MEANING = "meaning"
    PICTURE = "picture"


@dataclass(frozen=True)
class ModelKeys:
    """A model of pictures and one of texts, by what their vectors are filed under."""

    vision: str
    text: str

    @property
    def by_space(self) -> dict[Retriever, str]:
        """The same, by the lists that compare their vectors."""
        return {Retriever.PICTURE: self.vision, Retriever.MEANING: self.text}


@dataclass(frozen=True)
class EngineAddress:
    """Where an OpenSearch is and who asks it. ``prefix``: what the names of its indexes begin with."""

    url: str = field(repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    prefix: str = "heimdex"
    shards: int = 1


class TextEncoder(Protocol):
    """Embeds what scenes say and what is asked, which some models distinguish by a prompt before the text.

    ``key``: what its embeddings are filed under; ``dimensions``: how many numbers each has.
    """

    key: str
    dimensions: int

    def encode(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Embeddings of what scenes say: float32[n, dimensions], L2-normalised."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Embeddings of what is asked, to be compared with those: float32[n, dimensions], L2-normalised."""
        ...


class Match(StrEnum):
    """How a clause fits: all its words, its words one after the other, or any word that begins so."""

    WORD = "word"
    PHRASE = "phrase"
    PREFIX = "prefix"


@dataclass(frozen=True)
class Clause:
    """A part of a query that must fit or, ``negated``, must not."""

    text: str
    match: Match = Match.WORD
    negated: bool = False


@dataclass(frozen=True)
class WordsQuery:
    """Alternatives, of which one must fit with all its clauses."""

    alternatives: tuple[tuple[Clause, ...], ...]

    def __bool__(self) -> bool:
        return bool(self.alternatives)

    @property
    def words(self) -> list[str]:
        """The single words that must fit, which may be misspelt."""
        return [
            clause.text
            for clauses in self.alternatives
            for clause in clauses
            if clause.match is Match.WORD and not clause.negated
        ]

    @property
    def beginnings(self) -> list[str]:
        """What words may begin with, each once, in lower case."""
        clauses = [clause for clauses in self.alternatives for clause in clauses]
        return list(dict.fromkeys(clause.text.lower() for clause in clauses if clause.match is Match.PREFIX))

    @property
    def plain(self) -> str:
        """What is asked for, without operators and what is forbidden: as a model reads it."""
        wanted = [[clause.text for clause in clauses if not clause.negated] for clauses in self.alternatives]
        return " or ".join(" ".join(texts) for texts in wanted)

    def corrected(self, corrections: dict[str, str]) -> "WordsQuery":
        """The query with some of its words replaced."""
        return WordsQuery(
            tuple(
                tuple(
                    replace(clause, text=corrections.get(clause.text, clause.text))
                    if clause.match is Match.WORD and not clause.negated
                    else clause
                    for clause in clauses
                )
                for clauses in self.alternatives
            )
        )

    def __str__(self) -> str:
        return " or ".join(" ".join(map(_as_typed, clauses)) for clauses in self.alternatives)


MAX_TERMS = 32
"""Words of a query, those of phrases and forbidden ones among them."""
IDEOGRAPHS_OF_A_TERM = 16
"""Chinese and Japanese write no blanks, and an index takes each letter for a word: so many count as one."""
MIN_PREFIX = 3
"""Letters before the star: fewer begin too many words."""
_RUN = re.compile(r"[^\W_]+")
_IDEOGRAPH = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_TOKEN = re.compile(r'(?P<minus>-?)"(?P<phrase>[^"]*)"|(?P<word>[^\s"]+)')
_PREFIX = re.compile(r"(\w{2,})\*")


def parse_words(query: str) -> WordsQuery:
    """Read a query as people type it: ``tide moon``, ``"low tide"``, ``light*``, ``tide or moon``, ``-moon``.

    Nothing is an error: what makes no sense as an operator is a word, and an alternative that only forbids is left out,
    since it would fit nearly everything.
    """
    alternatives: list[list[Clause]] = [[]]
    for token in _TOKEN.finditer(query):
        word = token["word"]
        if word is not None and word.lower() == "or":
            alternatives.append([])
            continue
        clause = _clause(word) if word is not None else Clause(token["phrase"], Match.PHRASE, bool(token["minus"]))
        if any(map(str.isalnum, clause.text)):
            alternatives[-1].append(clause)
    return WordsQuery(tuple(tuple(one) for one in alternatives if any(not clause.negated for clause in one)))


def _clause(word: str) -> Clause:
    negated = word.startswith("-")
    text = word.removeprefix("-")
    prefix = _PREFIX.fullmatch(text)
    return Clause(prefix[1], Match.PREFIX, negated) if prefix else Clause(text, Match.WORD, negated)


def check_terms(query: WordsQuery) -> None:
    """Raise SearchRefused for a query that costs too much: too many terms, or beginnings that are too short."""
    clauses = [clause for clauses in query.alternatives for clause in clauses]
    short = [clause.text for clause in clauses if clause.match is Match.PREFIX and len(clause.text) < MIN_PREFIX]
    if short:
        raise SearchRefused(f"{short[0]}*: a beginning needs at least {MIN_PREFIX} letters before the star.")
    terms = sum(_terms(clause.text) for clause in clauses)
    if terms > MAX_TERMS:
        raise SearchRefused(
            f"The query has {terms} words (of Chinese and Japanese, {IDEOGRAPHS_OF_A_TERM} letters count as one), "
            f"of {MAX_TERMS} that one may have: ask for fewer."
        )


def _terms(text: str) -> int:
    letters_each = (len(_IDEOGRAPH.findall(run)) for run in _RUN.findall(text))
    return sum(max(1, -(-letters // IDEOGRAPHS_OF_A_TERM)) for letters in letters_each)


def _as_typed(clause: Clause) -> str:
    text = {Match.WORD: clause.text, Match.PHRASE: f'"{clause.text}"', Match.PREFIX: f"{clause.text}*"}[clause.match]
    return f"-{text}" if clause.negated else text


@dataclass(frozen=True)
class Scope:
    """Which scenes count: one owner's, of videos submitted ``since`` then, with all of ``tags``."""

    owner_id: UUID
    since: datetime | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class QueryVector:
    """What is asked of the meaning or picture list: an embedding, float32, L2-normalised, and the model's key."""

    model: str
    embedding: "NDArray[np.float32]"


@dataclass(frozen=True)
class RankedScene:
    """A scene in a ranked list; ``score`` is the list's own measure, higher is better."""

    scene_id: UUID
    score: float
