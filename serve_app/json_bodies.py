"""JSON bodies of requests: read up to a limit and parsed on threads, so that no body stops the event loop.

What a body must say is its model's. A body that no route could accept is refused before Python objects are made of it:
every step here takes a bounded time, also where it holds the interpreter's lock.
"""

import asyncio
import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import Request

from serve_app.error_responses import BadRequest
from serve_app.limits import CountedBody

SMALL_BODY_BYTES = 64 * 1024
"""Largest body of a JSON route that takes no submissions: 1000 ids and the blanks between them fit."""
MAX_TOKENS = 32 * 1024
"""Strings, brackets and commas of a body; a list of 1000 submissions with all their fields has 14,000."""
MAX_KEYS = 64
"""Keys of one object; each that is unknown is a mistake of its own."""
MAX_NESTING = 1000
"""Objects and lists within each other."""
PARSING_THREADS = 2
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)
"""A string, also one that never ends, or what parts values."""

_threads = ThreadPoolExecutor(PARSING_THREADS, "bodies")


class JsonRequest(Request):
    """A request whose JSON is parsed by a thread, within bounds. Raises BadRequest beyond them."""

    def __init__(self, request: Request, max_bytes: int | None) -> None:
        receive = request.receive if max_bytes is None else CountedBody(request.receive, max_bytes)
        super().__init__(request.scope, receive)

    async def json(self) -> Any:
        """The body as Python objects; raises as ``json.loads``."""
        body = await self.body()
        return await asyncio.get_running_loop().run_in_executor(_threads, parse_body, body)


def parse_body(body: bytes) -> Any:
    """What ``json.loads`` makes of a body, where it has few enough tokens, keys and levels.

    Raises:
        BadRequest: it has more tokens, or an object with more keys, than any route takes.
        ValueError: it is no JSON, or has more levels.
    """
    text = body.decode(json.detect_encoding(body), "surrogatepass")
    _check_size(text)
    return json.loads(text)


def _check_size(text: str) -> None:
    commas: list[int] = []  # within each object that is open; of a list, which may have many, from far below 0
    for number, token in enumerate(_TOKEN.finditer(text)):
        if number == MAX_TOKENS:
            raise BadRequest("The body has more values than are taken at once: send fewer.")
        mark = text[token.start()]
        if mark in "[{":
            commas.append(0 if mark == "{" else -MAX_TOKENS)
            if len(commas) > MAX_NESTING:
                raise ValueError("nested too deeply")
        elif mark in "]}" and commas:
            commas.pop()
        elif mark == "," and commas:
            commas[-1] += 1
            if commas[-1] >= MAX_KEYS:
                raise BadRequest(f"The body has an object with more than {MAX_KEYS} keys.")
