"""Values of requests in the spelling that the OpenAPI document gives them, and in no other; few mistakes of lists.

Pydantic by default takes ``false`` for 0, ``"5"`` and ``1_000`` for numbers, ``1700000000`` for a time, and an id
without its hyphens.
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BeforeValidator, TypeAdapter, ValidationError, WithJsonSchema

_WHOLE_NUMBER = re.compile("-?[0-9]+")
_ID = re.compile("[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?([Zz]|[+-][0-9]{2}:[0-9]{2})?)?"
)


def _digits(text: Any) -> Any:
    if isinstance(text, str) and not _WHOLE_NUMBER.fullmatch(text):
        raise ValueError("must be an integer, written in digits")
    return text


def _spelt_id(text: Any) -> Any:
    if not isinstance(text, UUID) and not (isinstance(text, str) and _ID.fullmatch(text)):
        raise ValueError("must be a UUID such as 5f0c7a52-6f4e-4a3a-9d0e-0f4f6f1f8c11")
    return text


def _spelt_time(text: Any) -> Any:
    if isinstance(text, str) and not _TIME.fullmatch(text):
        raise ValueError("Input should be a valid datetime by ISO 8601, such as 2026-01-31 or 2026-01-31T12:00:00Z")
    return text


Digits = BeforeValidator(_digits)
"""For a number in an address: digits alone."""
Id = Annotated[UUID, BeforeValidator(_spelt_id)]
"""A UUID with its hyphens, in small letters or capitals."""
Time = Annotated[
    datetime,
    BeforeValidator(_spelt_time),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}]}),
]
"""A date, or a date and time, with or without a time zone."""


SHOWN_MISTAKES = 5
"""Mistakes of a request that one answer names."""


def few_mistakes(item: Any, most: int) -> BeforeValidator:
    """For a list: what follows more mistakes than an answer shows is not looked at, since the list is refused anyway.

    Args:
        item: the type of its items.
        most: items of a list that is not too long; the list's own rule refuses others.
    """
    validate: Callable[[Any], Any] = TypeAdapter(item).validate_python

    def shortened(items: Any) -> Any:
        if not isinstance(items, list) or len(items) > most:
            return items
        checked: list[Any] = []
        mistakes = 0
        for each in items:
            try:
                checked.append(validate(each))
            except ValidationError:
                checked.append(each)
                mistakes += 1
                if mistakes > SHOWN_MISTAKES:
                    break
        return checked

    return BeforeValidator(shortened)
