"""How a query is read: operators where they make sense, words everywhere else."""

import pytest

from cluster.contracts.search import Clause, Match, WordsQuery, parse_words


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("low tide", "low tide"),
        ('"low tide"', '"low tide"'),
        ("tide -moon", "tide -moon"),
        ('tide -"full moon"', 'tide -"full moon"'),
        ("tide or moon", "tide or moon"),
        ("tide OR moon* or sun", "tide or moon* or sun"),
        ("moon*", "moon*"),
        ("-moon* tide", "-moon* tide"),
        ('an "open quote', "an open quote"),
        ("a* b", "a* b"),
        ("-moon", ""),
        ("tide or -moon", "tide"),
        ("or", ""),
        ("or tide or", "tide"),
        ("!? & | -- *", ""),
        ("it's e-mail", "it's e-mail"),
        ("", ""),
    ],
)
def test_a_query_is_read_as_people_type_it(typed: str, read: str) -> None:
    assert str(parse_words(typed)) == read
    assert str(parse_words(read)) == read


def test_a_prefix_is_of_letters_and_digits_only() -> None:
    (clauses,) = parse_words("li'ght* 2*3* light*").alternatives
    assert [clause.match for clause in clauses] == [Match.WORD, Match.WORD, Match.PREFIX]
    assert parse_words("a*") == WordsQuery(((Clause("a*"),),))


def test_models_read_what_is_asked_without_operators() -> None:
    assert parse_words('"low tide" moon* -sun or -x night').plain == "low tide moon or night"
    assert parse_words("-sun").plain == ""


def test_only_plain_words_that_must_fit_are_corrected() -> None:
    query = parse_words('tied -tied "tied" tied* or tied')
    assert query.words == ["tied", "tied"]
    assert str(query.corrected({"tied": "tide"})) == 'tide -tied "tied" tied* or tide'
