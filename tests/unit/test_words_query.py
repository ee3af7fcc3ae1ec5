"""Parsing of a query: operators where they make sense, words everywhere else."""

import pytest

from cluster.contracts.errors import SearchRefused
from cluster.contracts.search import IDEOGRAPHS_OF_A_TERM, Clause, Match, WordsQuery, check_terms, parse_words


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


@pytest.mark.parametrize(
    "query",
    [
        " or ".join(f"wo{a}{b}*" for a in "abcdef" for b in "abcdef")[:1000],
        "tide " + " ".join(f"-mo{a}{b}*" for a in "abcdef" for b in "abcdef"),
        "w " * 33,
        f'"{"w " * 33}"',
        f'"{"low tide " * 8}" {"moon " * 17}',
        "-".join("w" * 33),
        "_".join("w" * 33),
        "人" * (32 * IDEOGRAPHS_OF_A_TERM + 1),
    ],
)
def test_words_query_of_too_many_terms_is_refused(query: str) -> None:
    with pytest.raises(SearchRefused, match=r"of 32 that one may have: ask for fewer\.$"):
        check_terms(parse_words(query))


@pytest.mark.parametrize("query", ["aa* or ab*", "tide -mo*", "日本*", "x or (aa*) -bb*"])
def test_words_query_of_a_short_beginning_is_refused(query: str) -> None:
    with pytest.raises(SearchRefused, match="at least 3 letters before the star"):
        check_terms(parse_words(query))


@pytest.mark.parametrize("query", ["w " * 32, "a" * 1000, "人" * 512, "lig* -моо*", "a* b", "", "-aa*"])
def test_words_query_within_the_limits_is_searched(query: str) -> None:
    check_terms(parse_words(query))


def test_words_query_beginnings_are_each_named_once() -> None:
    assert parse_words("Lig* tide or lig* -moo*").beginnings == ["lig", "moo"]
