"""``heimdex logs``: what the processes of this machine log, merged by time."""

import heapq
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import typer

from cluster.cli.terminal import out_json, out_lines
from cluster.security.data_folder import check_data_folder
from cluster.security.event_files import EventReader
from cluster.security.log_output import LogLevel, as_text, number_of
from cluster.settings import load_settings

POLL_S = 0.25
"""Interval between looks for new lines."""
_AGE = re.compile(r"(\d+)(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Line = dict[str, Any]
Wanted = Callable[[Mapping[str, Any]], bool]


def _moment(written: str) -> datetime:
    age = _AGE.fullmatch(written)
    if age is not None:
        return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        raise typer.BadParameter(
            f"{written!r} is no time: give an age such as 30m, 2h or 7d, or a time such as 2026-01-31T12:00:00 (UTC)"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def logs(
    video: Annotated[UUID | None, typer.Option(help="Only lines about this video.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    level: Annotated[LogLevel, typer.Option(help="Only this level and those above it.")] = "debug",
    since: Annotated[
        datetime | None,
        typer.Option(parser=_moment, metavar="TIME", help="Only since then: 30m, 2h, 7d, or a time in UTC."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many lines, the latest ones.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show what the scheduler, the workers, the HTTP endpoints and the commands of this machine log, by time."""
    settings = load_settings()
    check_data_folder(settings.data_dir)
    wanted = _wanted(video, number_of(level), since)
    folder = settings.log_config.folder
    assert folder is not None
    try:
        with EventReader(folder) as reader:
            for line in latest(parsed(reader.new_lines(), wanted), limit):
                _show(line, as_json)
            while follow:
                time.sleep(POLL_S)
                for line in parsed(reader.new_lines(), wanted):
                    _show(line, as_json)
    except KeyboardInterrupt:
        if not follow:
            raise
    except BrokenPipeError:  # `heimdex logs | head`: nothing more can be printed, not even at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def latest(found: Iterable[Line], limit: int) -> list[Line]:
    """The latest lines, by time; those of one moment in the order in which they were written."""
    numbered = enumerate(found)
    return [line for _, line in sorted(heapq.nlargest(limit, numbered, key=_place), key=_place)]


def _place(numbered: tuple[int, Line]) -> tuple[str, int]:
    number, line = numbered
    return str(line.get("time", "")), number


def parsed(written: Iterable[bytes], wanted: Wanted) -> Iterator[Line]:
    """The lines that are wanted. What is no line of the log, as a disk that was full may leave it, is passed over."""
    for text in written:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and wanted(line):
            yield line


def _wanted(video: UUID | None, least: int, since: datetime | None) -> Wanted:
    levels = {name for name in ("debug", "info", "warning", "error", "critical") if number_of(name) >= least}
    # Times are written in one form, to the millisecond, so that their order is that of the texts.
    begin = "" if since is None else since.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def is_wanted(line: Mapping[str, Any]) -> bool:
        if line.get("level") not in levels or str(line.get("time", "")) < begin:
            return False
        return video is None or str(video) == line.get("video_id") or str(video) in (line.get("video_ids") or ())

    return is_wanted


def _show(line: Line, as_json: bool) -> None:
    if as_json:
        out_json(line, indent=None)
    else:
        out_lines(as_text(line))
