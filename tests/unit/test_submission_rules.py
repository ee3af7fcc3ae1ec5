"""The rules of a submission's contents, wherever it comes from."""

from typing import Any

import pytest
from pydantic import ValidationError

from cluster.contracts.videos import HIGHEST_PRIORITY, LOWEST_PRIORITY, Submission


def test_a_priority_has_bounds() -> None:
    for priority in (LOWEST_PRIORITY, 0, HIGHEST_PRIORITY):
        assert Submission(uri="a.mp4", priority=priority).priority == priority
    for priority in (LOWEST_PRIORITY - 1, HIGHEST_PRIORITY + 1, 2**40):
        with pytest.raises(ValidationError):
            Submission(uri="a.mp4", priority=priority)


@pytest.mark.parametrize(
    "said",
    [
        {"uri": ""},
        {"uri": "a" * 4097},
        {"uri": "a\0b"},
        {"uri": "a", "language": "English"},
        {"uri": "a", "owner": "b"},
    ],
)
def test_what_no_database_can_hold_or_nobody_reads_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Submission(**said)


def test_priority_is_a_number_and_nothing_like_it() -> None:
    odd: list[Any] = [False, True, "5", "", b"5", 1.5, float("nan"), float("inf"), None, [5], {}]
    for alike in odd:
        with pytest.raises(ValidationError):
            Submission.model_validate({"uri": "a.mp4", "priority": alike})
    assert Submission.model_validate({"uri": "a.mp4", "priority": 5.0}).priority == 5  # a whole number by JSON Schema
