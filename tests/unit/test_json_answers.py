"""JSON answers are written by the thread that worked for them. Long ones piece by piece, with the same bytes."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from pydantic import BaseModel, TypeAdapter, field_serializer
from starlette.testclient import TestClient

from serve_app.callers import OwnersWork
from serve_app.json_answers import answering, items_of, write_in_pieces

USER = UUID(int=5)
on_loop: list[bool] = []


class Told(BaseModel):
    text: str

    @field_serializer("text")
    def noted(self, text: str) -> str:
        on_loop.append(asyncio._get_running_loop() is not None)
        return text


class Telling(BaseModel):
    first: float
    items: list[Told]


def told(user_id: UUID = USER) -> Told:
    """Says something."""
    return Told(text="ä/\u2028")


@pytest.mark.parametrize("in_turns", [False, True])
def test_answer_is_written_by_the_thread_that_made_it(in_turns: bool) -> None:
    api = FastAPI()
    answered = answering(told, 202, OwnersWork().of("GET") if in_turns else None)
    api.add_api_route("/before", told, status_code=202)
    api.add_api_route("/after", answered, status_code=202, response_model=Told)
    on_loop.clear()
    with TestClient(api) as client:
        before, after = client.get(f"/before?user_id={USER}"), client.get(f"/after?user_id={USER}")
    assert on_loop == [True, False]
    assert (before.status_code, before.content) == (after.status_code, after.content)
    assert before.headers == after.headers
    described: Any = [dict(api.openapi()["paths"][path]["get"]) for path in ("/before", "/after")]
    for operation in described:
        del operation["operationId"]
    assert described[0] == described[1]


@pytest.mark.parametrize("count", [0, 1, 7])
def test_json_in_pieces_has_the_same_bytes_as_the_whole(count: int) -> None:
    rows = [{"text": f'"{number}"]}} ä'} for number in range(count)]
    pieces = [items_of(TypeAdapter(list[Told]), rows[at : at + 3]) for at in range(0, count, 3)]
    whole = Telling.model_validate({"first": 0.1, "items": rows})
    written = write_in_pieces(Telling(first=0.1, items=[]), "items", pieces)
    assert written == whole.model_dump_json().encode()
