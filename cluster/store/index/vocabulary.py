"""The words of each owner's scenes, and which of them was meant by one that is not among them.

Likeness is that of pg_trgm, which is not installed everywhere: the trigrams that two words share of all they have.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any
from uuid import UUID

from psycopg import Connection

from cluster.store.index.scene_text import SCENE_TEXT
from cluster.store.postgres.connections import Pool

LEAST_LIKENESS = 0.3
"""pg_trgm's own threshold."""
MAX_WORD = 40
"""Longer ones are no words, and are not typed in queries."""
MAX_CORRECTED = 8
"""Words of a query that are corrected; each is compared with much of the vocabulary."""
_WORD = re.compile(r"[^\W\d_]{3,}")

_ADD = """
-- Sorted, so that writers of the same words wait in turn, and never for each other.
INSERT INTO search_vocabulary (owner_id, word, trigrams)
SELECT video.owner_id, new.word, string_to_array(new.trigrams, '|')
FROM unnest(%(words)s::text[], %(trigrams)s::text[]) AS new (word, trigrams)
JOIN videos AS video ON video.id = %(video)s AND video.owner_id IS NOT NULL
WHERE NOT EXISTS (SELECT FROM search_vocabulary AS v WHERE v.owner_id = video.owner_id AND v.word = new.word)
ORDER BY new.word
ON CONFLICT DO NOTHING
"""

_ADD_OF_OWNER = """
INSERT INTO search_vocabulary (owner_id, word, trigrams)
SELECT %(owner)s, new.word, string_to_array(new.trigrams, '|')
FROM unnest(%(words)s::text[], %(trigrams)s::text[]) AS new (word, trigrams)
ON CONFLICT DO NOTHING
"""

_DROP_UNUSED = f"""
DELETE FROM search_vocabulary AS w
WHERE w.owner_id = %(owner)s AND w.word = ANY (%(words)s) AND NOT EXISTS (
    SELECT FROM video_scenes AS s JOIN videos AS v ON v.id = s.video_id
    WHERE v.owner_id = w.owner_id AND s.text_index @@ quote_literal(w.word)::tsquery
      -- The text index has stems too: "days" in speech does not mean that "day" was said.
      AND lower({SCENE_TEXT}) ~ ('(^|[^[:alpha:]])' || w.word || '($|[^[:alpha:]])')
)
"""

_NEAREST = """
-- Among the owner's words, the one most like each unknown word.
SELECT asked.word, near.word AS meant
FROM unnest(%(words)s::text[], %(trigrams)s::text[]) AS asked (word, trigrams)
CROSS JOIN LATERAL (
    SELECT v.word, shared.n / (cardinality(v.trigrams) + cardinality(asked.own) - shared.n)::float8 AS likeness
    FROM (SELECT string_to_array(asked.trigrams, '|') AS own) AS asked
    JOIN search_vocabulary AS v ON v.owner_id = %(owner)s AND v.trigrams && asked.own
    CROSS JOIN LATERAL (
        SELECT count(*) AS n FROM unnest(v.trigrams) AS t (trigram) WHERE t.trigram = ANY (asked.own)
    ) AS shared
    ORDER BY likeness DESC, v.word
    LIMIT 1
) AS near
WHERE near.likeness >= %(least)s AND NOT EXISTS (
    SELECT FROM search_vocabulary AS v WHERE v.owner_id = %(owner)s AND v.word = asked.word
)
"""


_BEGIN = """
-- How many of the owner's words begin so, counted no further than one past the limit.
SELECT count(*) AS words
FROM unnest(%(beginnings)s::text[], %(trigrams)s::text[]) AS asked (beginning, trigrams)
CROSS JOIN LATERAL (
    SELECT FROM search_vocabulary AS v
    WHERE v.owner_id = %(owner)s AND v.trigrams @> string_to_array(asked.trigrams, '|')
      AND starts_with(v.word, asked.beginning)
    LIMIT %(most)s + 1
) AS found
"""


def words_in(texts: Iterable[str]) -> set[str]:
    """The words of three letters and more, in lower case."""
    return {word for text in texts for word in _WORD.findall(text.lower()) if len(word) <= MAX_WORD}


def trigrams(word: str) -> list[str]:
    """As pg_trgm takes them: of the word with two blanks before it and one behind it."""
    padded = f"  {word} "
    return sorted({padded[start : start + 3] for start in range(len(padded) - 2)})


def _trigrams_of_beginning(beginning: str) -> list[str]:
    """Those that every word has that begins so."""
    padded = f"  {beginning}"
    return sorted({padded[start : start + 3] for start in range(len(padded) - 2)})


def add_words(connection: Connection[Any], video_id: UUID, texts: Iterable[str]) -> None:
    """Add the words of a video's texts to its owner's, within the caller's transaction."""
    words = sorted(words_in(texts))
    if words:
        connection.execute(_ADD, {"video": video_id, **_asked(words)})


class Vocabulary:
    """Every owner's words, to be asked what was meant."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def corrections(self, owner_id: UUID, words: Iterable[str]) -> dict[str, str]:
        """For each word that none of the owner's scenes has: the one that was probably meant, if any is like it.

        Of many words, only the first ``MAX_CORRECTED`` are looked at.
        """
        typed = {word.lower(): word for word in words if words_in([word]) == {word.lower()}}
        typed = dict(islice(typed.items(), MAX_CORRECTED))
        if not typed:
            return {}
        with self._pool.connection() as connection:
            rows = connection.execute(
                _NEAREST, {"owner": owner_id, "least": LEAST_LIKENESS, **_asked(list(typed))}
            ).fetchall()
        return {typed[row["word"]]: row["meant"] for row in rows}

    def begin_more_than(self, owner_id: UUID, beginnings: Sequence[str], most: int) -> bool:
        """Whether more than ``most`` of the owner's words begin with any of these."""
        if not beginnings:
            return False
        asked = {"beginnings": list(beginnings), "trigrams": ["|".join(_trigrams_of_beginning(b)) for b in beginnings]}
        with self._pool.connection() as connection:
            row = connection.execute(_BEGIN, {"owner": owner_id, "most": most, **asked}).fetchone()
        return row is not None and row["words"] > most

    def all_words(self) -> dict[UUID, set[str]]:
        """Every owner's words."""
        words: dict[UUID, set[str]] = {}
        with self._pool.connection() as connection:
            for row in connection.execute("SELECT owner_id, word FROM search_vocabulary"):
                words.setdefault(row["owner_id"], set()).add(row["word"])
        return words

    def repair(self, owner_id: UUID, missing: set[str], extra: set[str]) -> None:
        """Add words of the owner's scenes, and remove those that none of them has."""
        with self._pool.connection() as connection:
            connection.execute(_ADD_OF_OWNER, {"owner": owner_id, **_asked(sorted(missing))})
        self.drop_unused(owner_id, extra)

    def drop_unused(self, owner_id: UUID, words: Iterable[str]) -> None:
        """Remove those of the words that no scene of the owner has.

        In a transaction of its own: another one that adds a word must not wait for all that the caller does.
        """
        with self._pool.autocommitted() as connection:
            connection.execute(_DROP_UNUSED, {"owner": owner_id, "words": sorted(words)})


def _asked(words: list[str]) -> dict[str, object]:
    return {"words": words, "trigrams": ["|".join(trigrams(word)) for word in words]}
