"""JSON answers, made by the thread that worked for them: FastAPI by default writes them on the event loop.

What an answer says is its model's and the route's. Long ones are written piece by piece, since one piece holds the
interpreter's lock as long as it is written.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel, TypeAdapter

from serve_app.callers import OwnerThreads

Endpoint = Callable[..., Any]


def json_answer(written: bytes, status: int = 200) -> Response:
    """JSON that is written already, as an answer."""
    return Response(written, status, media_type="application/json")


def write_whole(model: BaseModel) -> Response:
    """A model as an answer, for a thread that made it."""
    return json_answer(model.model_dump_json().encode())


def write_in_pieces(model: BaseModel, name: str, pieces: Iterable[bytes]) -> bytes:
    """What a model is as JSON, with the items of its last field, which is an empty list, put in.

    Args:
        model: everything else.
        name: the list's.
        pieces: the items as JSON, some of them in each piece, separated by commas.
    """
    empty = f'"{name}":[]}}'.encode()
    head = model.model_dump_json().encode()
    assert head.endswith(empty)
    return head[:-2] + b",".join(pieces) + b"]}"


def items_of(adapter: "TypeAdapter[list[Any]]", rows: Sequence[Any]) -> bytes:
    """Some items of a list as JSON, separated by commas."""
    return adapter.dump_json(adapter.validate_python(rows))[1:-1]


def answering(endpoint: Endpoint, status: int, threads: OwnerThreads | None = None) -> Endpoint:
    """An endpoint that answers with finished JSON, with the same parameters and description.

    Args:
        endpoint: runs on a thread, and returns what its annotation says, or a response.
        status: of its answer.
        threads: where it runs, in turns of its owner; None: among FastAPI's threads.
    """
    signature = inspect.signature(endpoint)
    model = signature.return_annotation
    write = None if model in (None, Response) else partial(TypeAdapter(model).dump_json, by_alias=True)

    def answer(**values: Any) -> Any:
        returned = endpoint(**values)
        if write is None or isinstance(returned, Response):
            return returned
        return json_answer(write(returned), status)

    async def answer_in_turn(**values: Any) -> Any:
        assert threads is not None
        owner_id: UUID = values["user_id"]
        return await threads.run(owner_id, partial(answer, **values))

    made: Callable[..., Any | Awaitable[Any]] = answer if threads is None else answer_in_turn
    made.__name__, made.__doc__ = endpoint.__name__, endpoint.__doc__
    made.__signature__ = signature  # type: ignore[attr-defined]
    return made
