"""docs/reference/events.md has every event of the code with its levels and fields, and no other; the code logs nothing
else."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cluster.contracts.events import Event
from cluster.security.log_output import RESERVED

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "events.md"
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
ANYWHERE = {"error_type"}
"""A field that the page describes once: every error has it."""


@dataclass
class Logged:
    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)


def calls(source: str) -> Iterator[tuple[str, str, ast.Call]]:
    """The calls whose first argument is an event: its name, the name of what is called, the call."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(
                func=ast.Attribute(attr=called) | ast.Name(id=called),
                args=[ast.Attribute(value=ast.Name(id="Event"), attr=name), *_],
            ):
                yield name, called, node


def logged_in(source: str) -> dict[str, Logged]:
    found: dict[str, Logged] = {}
    for name, called, call in calls(source):
        event = found.setdefault(Event[name].value, Logged())
        event.fields |= {keyword.arg for keyword in call.keywords if keyword.arg is not None} - ANYWHERE
        if called in LEVELS:
            event.levels.add(LEVELS[called])
        elif called in ("note_failure", "_or_logged"):
            event.levels |= {"warning", "error"}
            event.fields |= {"error", *(("retry_s",) if called == "_or_logged" else ())}
        elif called == "RefusedRows":
            event.levels.add("error")
            event.fields |= {"error", "delay_s", ast.literal_eval(call.args[1])}
    return found


def sources() -> list[Path]:
    return [path for folder in ("cluster", "actors", "serve_app") for path in sorted((ROOT / folder).rglob("*.py"))]


def logged() -> dict[str, Logged]:
    whole = {Event.LIBRARY_MESSAGE.value: Logged({"warning", "error"}, {"message"})}
    for path in sources():
        for name, event in logged_in(path.read_text()).items():
            known = whole.setdefault(name, Logged())
            known.levels |= event.levels
            known.fields |= event.fields
    return whole


def on_page() -> dict[str, Logged]:
    rows = re.findall(r"^\| `([^`]+)` \| ([a-z, ]+) \| ([^|]*) \| [^|]{20,} \|$", PAGE.read_text(), re.MULTILINE)
    assert len({name for name, *_ in rows}) == len(rows)
    return {name: Logged(set(levels.split(", ")), set(re.findall(r"`(\w+)`", fields))) for name, levels, fields in rows}


def test_page_has_every_event_with_its_levels_and_fields() -> None:
    assert on_page() == logged()


def test_every_event_is_logged_somewhere() -> None:
    assert set(logged()) == {event.value for event in Event}


def test_modules_log_events_and_no_free_text() -> None:
    free = []
    for path in sources():
        if path.name == "audit_log.py":  # its lines are those of its table
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="logger"), attr=level), args=[first, *_]) if (
                    level in LEVELS
                ):
                    is_event = isinstance(first, ast.Attribute) and "event" in ast.unparse(first).lower()
                    if not is_event or len(node.args) > 1:
                        free.append(f"{path.relative_to(ROOT)}:{node.lineno}")
                case ast.Call(func=ast.Attribute(value=ast.Name(id="logging"), attr="getLogger"), args=[ast.Name()]):
                    if path.name not in ("event_log.py", "log_output.py"):
                        free.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert free == []


def test_no_field_has_the_name_of_a_key_of_every_line() -> None:
    names = {name for event in logged().values() for name in event.fields}
    assert names & set(RESERVED) == set()
    assert len(names) > 20
